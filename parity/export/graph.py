"""An ONNX graph in the making: nodes and constants, in the order of execution.

Written without `onnx`, so that a network's graph is read as the list of calls that it is;
`model.build` makes the file's messages of it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

Value = str | int | float | list[int] | list[float]


@dataclass(frozen=True)
class Node:
    """One operator: what it reads and makes, by name, and its attributes."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Port:
    """An input or an output of the whole graph, in its dtype.

    Attributes:
        shape: Its sizes; a word is one that each call chooses.
        about: What it holds, in a line.
    """

    name: str
    shape: tuple[int | str, ...]
    about: str


class Graph:
    """Nodes are added by a call, and values are known by their names.

    Args:
        dtype: Of every floating number in it, float32 or float64.
    """

    def __init__(self, dtype: Any):
        self.dtype = np.dtype(dtype)
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []

    def __call__(self, operator: str, *inputs: Value, name: str = "", **attributes: Any) -> str:
        """Adds a node of one output and returns its name.

        Args:
            operator: Of ONNX, "MatMul" for example.
            inputs: Names of values; numbers become constants.
            name: Of the output; one is made up unless given.
            attributes: Of the operator.
        """
        name = name or f"{operator.lower()}.{len(self.nodes)}"
        return self.several(operator, *inputs, names=(name,), **attributes)[0]

    def several(
        self, operator: str, *inputs: Value, names: tuple[str, ...], **attributes: Any
    ) -> tuple[str, ...]:
        """Adds a node of several outputs and returns their names."""
        read = tuple(each if isinstance(each, str) else self.constant(each) for each in inputs)
        self.nodes.append(Node(operator, read, names, attributes))
        return names

    def constant(self, value: Any, name: str = "", dtype: Any = None) -> str:
        """Adds a constant and returns its name.

        Args:
            value: Numbers.
            name: The same few numbers are one constant, known by them ("[0, 10, 6]"), unless given.
            dtype: Unless given int64 for whole numbers and the graph's for others.
        """
        array = np.asarray(value)
        array = array.astype(dtype or ("int64" if array.dtype.kind == "i" else self.dtype))
        name = name or str(array.tolist())
        self.constants[name] = array
        return name

    def input(self, name: str, shape: tuple[int | str, ...], about: str) -> str:
        """Adds an input and returns its name."""
        self.inputs.append(Port(name, shape, about))
        return name

    def output(self, name: str, shape: tuple[int | str, ...], about: str) -> None:
        """Makes a value an output."""
        self.outputs.append(Port(name, shape, about))
