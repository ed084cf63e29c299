"""Every tensor of a network: its name, its axes and its shape, strictly.

A canonical parameter is a NumPy array with a name and named axes. A wing states only its own
order of the axes; `transpose` computes the permutation from the two strings, in either direction.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity.spec import NetworkSpec, Tensor, TwincapsError

Arrays = dict[str, np.ndarray]

FLOATS = ("float32", "float64", "bfloat16", "float16")


class WeightsError(TwincapsError):
    """Weights that do not fit their network, or an invalid weights file."""


def table(spec: NetworkSpec) -> dict[str, Tensor]:
    """Name -> Tensor for every parameter and all state, in the order of execution."""
    return spec.tensors()


def state(spec: NetworkSpec) -> tuple[str, ...]:
    """The names of a network's state: running numbers, which no optimiser moves."""
    return tuple(name for name, row in table(spec).items() if not row.trained)


def transpose(array: Any, source: str, target: str) -> Any:
    """`array` with its axes, named `source`, in the order of `target`.

    "i j k" -> "k i j", for example.
    """
    names = source.split()
    return array.transpose([names.index(axis) for axis in target.split()])


def check(
    arrays: Mapping[str, np.ndarray], rows: Mapping[str, Tensor], what: str = "weights"
) -> None:
    """Raises WeightsError with every missing, unexpected and mis-shaped tensor."""
    faults = [f"missing {name} {row.shape}" for name, row in rows.items() if name not in arrays]
    faults += [f"unexpected {name} {a.shape}" for name, a in arrays.items() if name not in rows]
    for name in rows.keys() & arrays.keys():
        shape, dtype = tuple(arrays[name].shape), str(arrays[name].dtype)
        if shape != rows[name].shape:
            faults.append(f"{name} has shape {shape}, expected {rows[name].shape}")
        if dtype not in FLOATS:
            faults.append(f"{name} has dtype {dtype}, expected one of {', '.join(FLOATS)}")
    if faults:
        listed = "\n  ".join(sorted(faults))
        raise WeightsError(f"{what}: {len(faults)} names do not fit this network:\n  {listed}")
