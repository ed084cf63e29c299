# Written by `make stubs` from parity.spec.ROUTINGS.

from parity.reference.routing._dynamic import dynamic as dynamic
from parity.reference.routing._em import em as em
from parity.reference.routing._self_attention import self_attention as self_attention
from parity.reference.routing._self_routing import self_routing as self_routing
from parity.reference.routing._variational_bayes import variational_bayes as variational_bayes
