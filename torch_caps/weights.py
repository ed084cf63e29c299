"""Weights in files: canonical ones, native ones, and those that come with twincaps."""

import io
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parity import weights as canonical
from parity.spec import TrainedOn
from torch_caps.arrays import from_numpy, numpy, tensor, to_numpy
from torch_caps.networks import CapsuleNetwork

__all__ = [
    "from_numpy",
    "load",
    "load_pretrained",
    "read_file",
    "save",
    "to_numpy",
    "write_file",
]


def save(net: CapsuleNetwork, path: str | os.PathLike, trained_on: TrainedOn | None = None) -> None:
    """Write the weights to a canonical .safetensors file, which either wing reads.

    trained_on  held with them, e.g. `parity.data.fingerprint(dataset)`: `predict` then knows the
                names of the classes, and how a picture becomes an image
    """
    canonical.save(path, net.spec, to_numpy(net), trained_on)


def load(path: str | os.PathLike) -> CapsuleNetwork:
    """The network of a canonical .safetensors file, float64 if its weights are, else float32."""
    spec, arrays = canonical.load(path)
    wide = any(array.dtype == np.float64 for array in arrays.values())
    net = CapsuleNetwork(spec, precision="float64" if wide else "float32")
    from_numpy(net, arrays)
    return net


def load_pretrained(name: str, precision: str = "float32") -> CapsuleNetwork:
    """A network that comes with twincaps, trained: "small-mnist", "small-fashion-mnist".

    Raises WeightsError with the known names for any other.
    """
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
