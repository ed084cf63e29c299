# Written by `make stubs` from parity.spec.ROUTINGS.

from jax_caps.routing._dynamic import dynamic as dynamic
