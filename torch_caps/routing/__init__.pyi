# Written by `make stubs` from parity.spec.ROUTINGS.

from torch_caps.routing._dynamic import dynamic as dynamic
from torch_caps.routing._dynamic_3d import dynamic_3d as dynamic_3d
from torch_caps.routing._em import em as em
from torch_caps.routing._inverted_attention import inverted_attention as inverted_attention
from torch_caps.routing._self_attention import self_attention as self_attention
from torch_caps.routing._self_routing import self_routing as self_routing
from torch_caps.routing._variational_bayes import variational_bayes as variational_bayes
