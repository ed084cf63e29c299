"""The order of axes of JAX, and its arrays <-> canonical NumPy arrays, both ways.

The order is stated here; every permutation is computed from it and the canonical one.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.core import Tracer

from parity import weights as canonical
from parity.spec import NetworkSpec

# canonical axes -> this wing's; an order that is not here is the same
AXES: dict[str, str] = {}


class _Network(Protocol):
    """The part of a network that is used here: networks import this file."""

    spec: NetworkSpec
    dtype: Any


def axes(spec: NetworkSpec) -> dict[str, tuple[str, str]]:
    """Name -> (canonical axes, JAX axes) of each parameter and state, in order of execution."""
    rows = canonical.table(spec)
    return {name: (row.axes, AXES.get(row.axes, row.axes)) for name, row in rows.items()}


def to_canonical(tensor: Array, orders: tuple[str, str]) -> np.ndarray:
    """A copy of a JAX array as a NumPy array in canonical axes, bit for bit."""
    return np.array(canonical.transpose(numpy(tensor), orders[1], orders[0]), order="C")


def from_canonical(array: np.ndarray, orders: tuple[str, str]) -> Array:
    """A copy of an array in canonical axes as a JAX array in JAX's, bit for bit."""
    return tensor(np.array(canonical.transpose(array, *orders), order="C"))


def numpy(tensor: Array) -> np.ndarray:
    """A JAX array as a NumPy array of the same dtype, bfloat16 through ml_dtypes."""
    return np.asarray(tensor)


def concrete(x: Any) -> Any:
    """`x` as a NumPy array, where it has values that can be looked at.

    It stays as it is while it is traced, and where other processes hold a part of it.
    """
    if isinstance(x, Tracer) or not getattr(x, "is_fully_addressable", True):
        return x
    return np.asarray(x)


def tensor(array: np.ndarray) -> Array:
    """A NumPy array as a JAX array of the same dtype."""
    return jnp.array(array)


def given(values: Any) -> Array:
    """A caller's JAX array, NumPy array of any byte order or list as a JAX array."""
    if isinstance(values, np.ndarray):
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return jnp.asarray(values)


def parameters(net: _Network) -> Iterator[tuple[str, nnx.Variable, tuple[str, str]]]:
    """(name, parameter, axes) in the order of execution; state, as nnx.BatchStat, too."""
    for name, orders in axes(net.spec).items():
        node: Any = net
        for part in name.split("."):
            node = node[int(part)] if part.isdigit() else getattr(node, part)
        yield name, node, orders


def to_numpy(net: _Network) -> canonical.Arrays:
    """A copy of every parameter and state, by canonical name and axes, in the network's dtype."""
    return {
        name: to_canonical(parameter[...], orders) for name, parameter, orders in parameters(net)
    }


def from_numpy(net: _Network, arrays: Mapping[str, np.ndarray]) -> None:
    """Copies canonical arrays into a network, cast to its dtype.

    Raises WeightsError with every missing, unexpected and mis-shaped name; then nothing is copied.
    """
    # Every tensor is checked before the first is copied.
    canonical.check(arrays, canonical.table(net.spec))
    for name, parameter, orders in parameters(net):
        parameter.set_value(from_canonical(arrays[name], orders).astype(net.dtype))


def _by_name(state: Any) -> dict[str, nnx.Variable]:
    """A state of the network's structure as {canonical name: variable}."""
    return {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}
