"""Whole networks as ONNX operators: a file a paper, the same names as in `parity.spec.networks`."""

from types import ModuleType

from parity.export.networks import deepcaps, efficient, sabour2017

# network -> the module with its `encode` and `decode`
GRAPHS: dict[str, ModuleType] = {
    "sabour2017": sabour2017,
    "efficient": efficient,
    "deepcaps": deepcaps,
}
