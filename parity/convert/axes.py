"""Patterns of named axes: "(type h w) j" is two dimensions, the first of three.

A pattern says how a tensor lies in memory. `reorder` takes a tensor from one pattern to another,
and back with the two exchanged; `solve` reads the sizes of axes from the shapes of tensors.
"""

import math
import re
from collections.abc import Iterable, Mapping

import numpy as np

Sizes = dict[str, int]


def parse(pattern: str) -> list[list[str]]:
    """The axes of each dimension: "1 (type h) j" -> [[], ["type", "h"], ["j"]]."""
    dimensions = re.findall(r"\(([^)]*)\)|(\S+)", pattern)
    return [group.split() if group else [] if one == "1" else [one] for group, one in dimensions]


def shape(pattern: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of a tensor of this pattern."""
    return tuple(math.prod(sizes[axis] for axis in group) for group in parse(pattern))


def reorder(array: np.ndarray, source: str, target: str, sizes: Mapping[str, int]) -> np.ndarray:
    """The same numbers in another pattern of the same axes, as an array of its own."""
    axes = [axis for group in parse(source) for axis in group]
    wanted = [axis for group in parse(target) for axis in group]
    apart = array.reshape([sizes[axis] for axis in axes])
    turned = apart.transpose([axes.index(axis) for axis in wanted])
    return np.array(turned.reshape(shape(target, sizes)), order="C")


def solve(tensors: Iterable[tuple[str, tuple[int, ...]]], known: Mapping[str, int]) -> Sizes:
    """The sizes of axes that follow from the shapes of tensors of known patterns.

    A dimension gives the size of an axis where it has one that is not yet known. Nothing is
    checked: where shapes contradict each other, the first one counts.

    Args:
        tensors: (pattern, shape) of each tensor.
        known: Sizes to begin with.
    """
    sizes = dict(known)
    rows = [
        (group, size)
        for pattern, dimensions in tensors
        for group, size in zip(parse(pattern), dimensions, strict=False)
    ]
    while True:
        before = len(sizes)
        for group, size in rows:
            open_axes = [axis for axis in group if axis not in sizes]
            if len(open_axes) == 1:
                rest = math.prod(sizes[axis] for axis in group if axis in sizes)
                sizes[open_axes[0]] = size // max(rest, 1)
        if len(sizes) == before:
            return sizes
