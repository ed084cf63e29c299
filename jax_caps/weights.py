"""This wing's parameters <-> NumPy, under the canonical names.

JAX's order of axes is stated here; every permutation is computed from it and the canonical one.
"""

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from flax import nnx, serialization, traverse_util
from jax import Array

from parity import weights as canonical
from parity.spec import NetworkSpec

if TYPE_CHECKING:
    from jax_caps.network import CapsuleNetwork

# canonical axes -> this wing's; an order that is not here is the same
AXES: dict[str, str] = {}


def axes(spec: NetworkSpec) -> dict[str, tuple[str, str]]:
    """Name -> (canonical axes, JAX axes) for every parameter, in the order of execution."""
    rows = canonical.table(spec)
    return {name: (row.axes, AXES.get(row.axes, row.axes)) for name, row in rows.items()}


def to_canonical(tensor: Array, orders: tuple[str, str]) -> np.ndarray:
    """A copy of a JAX array in this wing's axes as one in canonical axes, bit for bit."""
    return np.array(canonical.transpose(numpy(tensor), orders[1], orders[0]), order="C")


def from_canonical(array: np.ndarray, orders: tuple[str, str]) -> Array:
    """A copy of an array in canonical axes as a JAX array in this wing's axes, bit for bit."""
    return tensor(np.array(canonical.transpose(array, *orders), order="C"))


def numpy(tensor: Array) -> np.ndarray:
    """A JAX array as a NumPy array of the same dtype, bfloat16 through ml_dtypes."""
    return np.asarray(tensor)


def tensor(array: np.ndarray) -> Array:
    """A NumPy array as a JAX array of the same dtype."""
    return jnp.array(array)


def parameters(net: "CapsuleNetwork") -> Iterator[tuple[str, nnx.Param, tuple[str, str]]]:
    """(name, parameter, axes) in the order of execution."""
    for name, orders in axes(net.spec).items():
        held: Any = net
        for part in name.split("."):
            held = held[int(part)] if part.isdigit() else getattr(held, part)
        yield name, held, orders


def to_numpy(net: "CapsuleNetwork") -> canonical.Arrays:
    """A copy of every parameter, by canonical name and axes, in the network's dtype."""
    return {name: to_canonical(each[...], orders) for name, each, orders in parameters(net)}


def from_numpy(net: "CapsuleNetwork", arrays: Mapping[str, np.ndarray]) -> None:
    """Copy canonical arrays into a network, cast to its dtype.

    Strict: WeightsError lists every missing, unexpected and mis-shaped name, and nothing is copied.
    """
    canonical.check(arrays, canonical.table(net.spec))
    for name, parameter, orders in parameters(net):
        parameter.set_value(from_canonical(arrays[name], orders).astype(net.dtype))


def save(net: "CapsuleNetwork", path: str | os.PathLike) -> None:
    """Write the weights to a canonical .safetensors file, which either wing reads."""
    canonical.save(path, net.spec, to_numpy(net))


def load(path: str | os.PathLike) -> "CapsuleNetwork":
    """The network of a canonical .safetensors file, float64 if its weights are, else float32."""
    from jax_caps.network import CapsuleNetwork  # the network is built on this file

    spec, arrays = canonical.load(path)
    wide = any(array.dtype == np.float64 for array in arrays.values())
    net = CapsuleNetwork(spec, precision="float64" if wide else "float32")
    from_numpy(net, arrays)
    return net


def load_pretrained(name: str, precision: str = "float32") -> "CapsuleNetwork":
    """A network that comes with twincaps, trained: "small-mnist", "small-fashion-mnist".

    Raises WeightsError with the known names for any other.
    """
    from jax_caps.network import CapsuleNetwork  # the network is built on this file

    spec, arrays = canonical.load_pretrained(name)
    net = CapsuleNetwork(spec, precision=precision)
    from_numpy(net, arrays)
    return net


def write_file(path: str | os.PathLike, arrays: canonical.Arrays, header: str) -> None:
    """Write a .msgpack file of {"params": the pure dict of a network, "twincaps": header}."""
    parts = {tuple(_key(key) for key in name.split(".")): arrays[name] for name in arrays}
    content = {"params": traverse_util.unflatten_dict(parts), "twincaps": header}
    canonical.write_whole(path, serialization.msgpack_serialize(content))


def read_file(path: str | os.PathLike) -> tuple[canonical.Arrays, Any]:
    """The arrays of a .msgpack file and its header, None where it has none.

    The arrays are a nested dict, alone or under "params"; lists may have become dicts of numbers.
    Raises WeightsError for what is not a whole file of such.
    """
    try:
        with open(path, "rb") as file:
            content = serialization.msgpack_restore(file.read())
    except Exception as error:  # msgpack and flax each have their own
        raise canonical.WeightsError(f"{path}: not a whole .msgpack file ({error})") from error
    header = content.pop("twincaps", None) if isinstance(content, dict) else None
    tree = content.get("params", content) if isinstance(content, dict) else content
    try:
        flat = traverse_util.flatten_dict(tree) if isinstance(tree, dict) else {("all",): tree}
    except RecursionError as error:
        raise canonical.WeightsError(f"{path}: its dicts have no end; expected a few") from error
    named = {".".join(map(str, parts)): each for parts, each in flat.items()}
    arrays = {name: each for name, each in named.items() if isinstance(each, np.ndarray)}
    if strange := sorted(named.keys() - arrays.keys()):
        raise canonical.WeightsError(f"{path}: no array: {strange[:20]}; expected a pure dict")
    return arrays, header


def _key(key: str) -> str | int:
    return int(key) if key.isdigit() else key
