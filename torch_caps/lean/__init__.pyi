# Written by `make stubs` from parity.spec.ROUTINGS.

from torch_caps.lean._dynamic import dynamic as dynamic
