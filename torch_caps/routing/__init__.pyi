# Written by `make stubs` from parity.spec.ROUTINGS.

from torch_caps.routing._dynamic import dynamic as dynamic
from torch_caps.routing._self_attention import self_attention as self_attention
