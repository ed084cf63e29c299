"""Whole networks as ONNX operators: a file a paper, the same names as in `parity.spec.networks`."""

from types import ModuleType

from parity.export.networks import deepcaps, efficient, inverted, sabour2017

# network -> the module with its `encode`, with a decoder its `decode`, and its `scores` where they
# are no lengths
GRAPHS: dict[str, ModuleType] = {
    "sabour2017": sabour2017,
    "efficient": efficient,
    "deepcaps": deepcaps,
    "inverted": inverted,
}
