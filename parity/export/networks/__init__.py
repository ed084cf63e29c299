"""Whole networks as ONNX operators: a file a paper, the same names as in `parity.spec.networks`."""

from types import ModuleType

from parity.export.networks import (
    deepcaps,
    efficient,
    inverted,
    matrix,
    sabour2017,
    self_routing,
    variational_bayes,
)

# network -> the module with its `encode`, and with a decoder its `decode`
GRAPHS: dict[str, ModuleType] = {
    "sabour2017": sabour2017,
    "efficient": efficient,
    "self_routing": self_routing,
    "matrix": matrix,
    "variational_bayes": variational_bayes,
    "deepcaps": deepcaps,
    "inverted": inverted,
}
