"""This wing's parameters <-> NumPy, under the canonical names.

torch's order of axes is stated here; every permutation is computed from it and the canonical one.
"""

import io
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from parity import weights as canonical
from parity.spec import NetworkSpec

if TYPE_CHECKING:
    from torch_caps.network import CapsuleNetwork

# canonical axes -> this wing's; an order that is not here is the same
AXES = {"kh kw in out": "out in kh kw", "in out": "out in"}


def axes(spec: NetworkSpec) -> dict[str, tuple[str, str]]:
    """Name -> (canonical axes, torch axes) for every parameter, in the order of execution."""
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


def tensor(array: np.ndarray) -> Tensor:
    """An array as a tensor of the same dtype that shares its memory."""
    if str(array.dtype) == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def parameters(net: "CapsuleNetwork") -> Iterator[tuple[str, Tensor, tuple[str, str]]]:
    """(name, parameter, axes) in the order of execution."""
    held = dict(net.named_parameters())
    for name, orders in axes(net.spec).items():
        yield name, held[name], orders


def to_numpy(net: "CapsuleNetwork") -> canonical.Arrays:
    """A copy of every parameter, by canonical name and axes, in the network's dtype."""
    return {name: to_canonical(each, orders) for name, each, orders in parameters(net)}


def from_numpy(net: "CapsuleNetwork", arrays: Mapping[str, np.ndarray]) -> None:
    """Copy canonical arrays into a network, cast to its dtype.

    Strict: WeightsError lists every missing, unexpected and mis-shaped name, and nothing is copied.
    """
    canonical.check(arrays, canonical.table(net.spec))
    with torch.no_grad():
        for name, parameter, orders in parameters(net):
            parameter.copy_(from_canonical(arrays[name], orders))


def save(net: "CapsuleNetwork", path: str | os.PathLike) -> None:
    """Write the weights to a canonical .safetensors file, which either wing reads."""
    canonical.save(path, net.spec, to_numpy(net))


def load(path: str | os.PathLike) -> "CapsuleNetwork":
    """The network of a canonical .safetensors file, float64 if its weights are, else float32."""
    from torch_caps.network import CapsuleNetwork  # the network is built on this file

    spec, arrays = canonical.load(path)
    wide = any(array.dtype == np.float64 for array in arrays.values())
    net = CapsuleNetwork(spec, precision="float64" if wide else "float32")
    from_numpy(net, arrays)
    return net


def load_pretrained(name: str, precision: str = "float32") -> "CapsuleNetwork":
    """A network that comes with twincaps, trained: "small-mnist", "small-fashion-mnist".

    Raises WeightsError with the known names for any other.
    """
    from torch_caps.network import CapsuleNetwork  # the network is built on this file

    spec, arrays = canonical.load_pretrained(name)
    net = CapsuleNetwork(spec, precision=precision)
    from_numpy(net, arrays)
    return net


def write_file(path: str | os.PathLike, arrays: canonical.Arrays, header: str) -> None:
    """Write a .pt file of {"state_dict": tensors in torch's axes, "twincaps": header}."""
    held = {name: tensor(np.array(array, order="C")) for name, array in arrays.items()}
    content = io.BytesIO()
    torch.save({"state_dict": held, "twincaps": header}, content)
    canonical.write_whole(path, content.getvalue())


def read_file(path: str | os.PathLike) -> tuple[canonical.Arrays, Any]:
    """The tensors of a .pt file and its header, None where it has none; nothing in it is executed.

    The tensors may stand alone or beside other things (an optimiser, an epoch), under any key.
    Raises WeightsError for what is not one dict of tensors, or would have to run code to be read.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, zip and pickle each have their own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise canonical.WeightsError(
            f"{path}: refused ({reason}); expected a whole file of "
            "torch.save(model.state_dict(), path): tensors alone, nothing that runs code"
        ) from error
    held = [each for each in (content, *_values(content)) if _is_state_dict(each)]
    if len(held) != 1:
        keys = list(content)[:20] if isinstance(content, dict) else type(content).__name__
        raise canonical.WeightsError(
            f"{path}: holds {len(held)} dicts of tensors, under {keys}; expected one state_dict"
        )
    names, tensors = list(held[0]), held[0].values()
    if all(name.startswith("module.") for name in names):  # torch.nn.DataParallel adds it
        names = [name.removeprefix("module.") for name in names]
    length = os.path.getsize(path)
    try:
        swollen = sum(each.numel() * each.element_size() for each in tensors) > length
        arrays = [] if swollen else [numpy(each) for each in tensors]
    except (TypeError, RuntimeError) as error:  # sparse, quantised, of a dtype NumPy lacks
        raise canonical.WeightsError(f"{path}: holds what is no plain array ({error})") from error
    if swollen:
        raise canonical.WeightsError(f"{path}: its tensors have more numbers than the file")
    return dict(zip(names, arrays, strict=True)), content.get("twincaps")


def _values(content: Any) -> list[Any]:
    return list(content.values()) if isinstance(content, dict) else []


def _is_state_dict(content: Any) -> bool:
    values = _values(content)
    tensors = bool(values) and all(isinstance(each, Tensor) for each in values)
    return tensors and all(isinstance(name, str) for name in content)
