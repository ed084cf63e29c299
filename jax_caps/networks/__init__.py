"""Whole networks: a file a paper, the same names as in `parity.spec.networks`."""

from typing import Any

from jax_caps.networks.deepcaps import DeepCapsNetwork
from jax_caps.networks.efficient import EfficientNetwork
from jax_caps.networks.inverted import InvertedNetwork
from jax_caps.networks.matrix import MatrixNetwork
from jax_caps.networks.network import Network
from jax_caps.networks.sabour2017 import CapsuleNetwork
from jax_caps.networks.self_routing import SelfRoutingNetwork
from jax_caps.networks.variational_bayes import VariationalBayesNetwork
from parity.spec import Method, NetworkSpec, Precision

__all__ = [
    "CapsuleNetwork",
    "DeepCapsNetwork",
    "EfficientNetwork",
    "InvertedNetwork",
    "MatrixNetwork",
    "Network",
    "SelfRoutingNetwork",
    "VariationalBayesNetwork",
    "build",
]

# The class of each row of `parity.spec.NETWORKS`.
_CLASSES: dict[str, Any] = {
    "sabour2017": CapsuleNetwork,
    "efficient": EfficientNetwork,
    "self_routing": SelfRoutingNetwork,
    "matrix": MatrixNetwork,
    "inverted": InvertedNetwork,
    "deepcaps": DeepCapsNetwork,
    "variational_bayes": VariationalBayesNetwork,
}


def build(
    spec: NetworkSpec,
    seed: int = 0,
    precision: Precision = "float32",
    lean: bool = True,
    block: int | None = None,
    convolution: Method = "auto",
) -> Network:
    """The network of any spec; arguments are those of `CapsuleNetwork`."""
    return _CLASSES[spec.network](spec, seed, precision, lean, block, convolution)
