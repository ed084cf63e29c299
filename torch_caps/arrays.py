"""The order of axes of torch, and tensors <-> canonical NumPy arrays, both ways.

The order is stated here; every permutation is computed from it and the canonical one.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from parity import weights as canonical
from parity.spec import NetworkSpec

# canonical axes -> this wing's; an order that is not here is the same
AXES = {"kh kw in out": "out in kh kw", "in out": "out in", "kh kw out": "out kh kw"}


class _Network(Protocol):
    """The part of a network that is used here: networks import this file."""

    spec: NetworkSpec

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]: ...

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]: ...


def axes(spec: NetworkSpec) -> dict[str, tuple[str, str]]:
    """Name -> (canonical axes, torch axes) of each parameter and state, in order of execution."""
    rows = canonical.table(spec)
    return {name: (row.axes, AXES.get(row.axes, row.axes)) for name, row in rows.items()}


def to_canonical(tensor: Tensor, orders: tuple[str, str]) -> np.ndarray:
    """A copy of a tensor in torch's axes as an array in canonical axes, bit for bit."""
    array = canonical.transpose(numpy(tensor), orders[1], orders[0])
    return np.array(array, order="C")


def from_canonical(array: np.ndarray, orders: tuple[str, str]) -> Tensor:
    """A copy of an array in canonical axes as a tensor in torch's axes, bit for bit."""
    return tensor(np.array(canonical.transpose(array, *orders), order="C"))


def numpy(tensor: Tensor) -> np.ndarray:
    """A tensor as an array of the same dtype, bfloat16 through ml_dtypes."""
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view("bfloat16")
    return tensor.numpy()


def concrete(x: Any) -> Any:
    """`x` as a NumPy array, where its values can be read without waiting for them.

    It stays as it is while it is compiled or transformed, and on a device.
    """
    if not isinstance(x, Tensor):
        return np.asarray(x)
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return x
    try:
        return numpy(x)
    except RuntimeError:  # a transform's own tensor, as vmap's, which holds no values
        return x


def tensor(array: np.ndarray) -> Tensor:
    """An array as a tensor of the same dtype that shares its memory."""
    if str(array.dtype) == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def given(values: Any) -> Tensor:
    """A caller's tensor, array or list as a tensor.

    An array whose memory torch cannot share is copied: one that is flipped, read-only, or of
    another byte order or width.
    """
    if isinstance(values, np.ndarray):
        dtype = np.dtype("f8") if values.dtype == np.longdouble else values.dtype
        return tensor(np.require(values, dtype.newbyteorder("="), ["C", "W"]))
    return torch.as_tensor(values)


def parameters(net: _Network) -> Iterator[tuple[str, Tensor, tuple[str, str]]]:
    """(name, parameter, axes) in the order of execution; state, which buffers hold, too."""
    by_name = dict([*net.named_parameters(), *net.named_buffers()])
    for name, orders in axes(net.spec).items():
        yield name, by_name[name], orders


def to_numpy(net: _Network) -> canonical.Arrays:
    """A copy of every parameter and state, by canonical name and axes, in the network's dtype."""
    return {name: to_canonical(parameter, orders) for name, parameter, orders in parameters(net)}


def from_numpy(net: _Network, arrays: Mapping[str, np.ndarray]) -> None:
    """Copies canonical arrays into a network, cast to its dtype.

    Raises WeightsError with every missing, unexpected and mis-shaped name; then nothing is copied.
    """
    # Every tensor is checked before the first is copied.
    canonical.check(arrays, canonical.table(net.spec))
    with torch.no_grad():
        for name, parameter, orders in parameters(net):
            parameter.copy_(from_canonical(arrays[name], orders))
