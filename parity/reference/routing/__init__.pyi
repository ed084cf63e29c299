# Written by `make stubs` from parity.spec.ROUTINGS.

from parity.reference.routing._dynamic import dynamic as dynamic
