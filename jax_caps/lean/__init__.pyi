# Written by `make stubs` from parity.spec.ROUTINGS.

from jax_caps.lean._dynamic import dynamic as dynamic
from jax_caps.lean._inverted_attention import inverted_attention as inverted_attention
