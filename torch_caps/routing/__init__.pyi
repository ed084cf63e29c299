# Written by `make stubs` from parity.spec.ROUTINGS.

from torch_caps.routing._dynamic import dynamic as dynamic
