# Written by `make stubs` from parity.spec.ROUTINGS.

from jax_caps.lean._dynamic import dynamic as dynamic
