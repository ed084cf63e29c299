"""Weights in files: canonical, native, and those that come with twincaps."""

import io
import itertools
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.serialization import safe_globals

from parity import weights as canonical
from parity.spec import NetworkSpec, Precision, TrainedOn, gist
from torch_caps.arrays import from_numpy, numpy, tensor, to_numpy
from torch_caps.networks import Network, build

__all__ = [
    "from_numpy",
    "from_pretrained",
    "load",
    "load_pretrained",
    "read_file",
    "save",
    "save_pretrained",
    "to_numpy",
    "write_file",
]

_EXPECTED = (
    "expected a whole file of torch.save(model.state_dict(), path): tensors alone, nothing that "
    "runs code"
)
# What pickles of NumPy numbers and arrays name, by NumPy 1 and by NumPy 2.
_MAKERS = itertools.product(("core", "_core"), ("scalar", "_reconstruct"))
_NUMPY = ["numpy.dtype", "numpy.ndarray", *(f"numpy.{c}.multiarray.{n}" for c, n in _MAKERS)]


def save(net: Network, path: str | os.PathLike, trained_on: TrainedOn | None = None) -> None:
    """Writes the weights to a canonical .safetensors file, which either wing reads.

    Args:
        net: The network, whose spec is saved too.
        path: The file; one that is there is replaced.
        trained_on: Saved with them, `parity.data.fingerprint(dataset)` for example: `predict` then
            knows the names of the classes, and how a picture becomes an image.
    """
    canonical.save(path, net.spec, to_numpy(net), trained_on)


def load(path: str | os.PathLike) -> Network:
    """The network of a canonical .safetensors file.

    It is float64 where its weights are, else float32. Raises WeightsError where the file is
    missing, damaged, or of another kind.
    """
    spec, arrays = canonical.load(path)
    wide = any(array.dtype == np.float64 for array in arrays.values())
    return _built(spec, arrays, "float64" if wide else "float32")


def load_pretrained(name: str, precision: Precision = "float32") -> Network:
    """A trained network that comes with twincaps.

    Args:
        name: One of `parity.weights.pretrained_names()`, "efficient-mnist" say.
        precision: As in `CapsuleNetwork`.

    Raises:
        WeightsError: With the known names, where the name is unknown.
    """
    return _built(*canonical.load_pretrained(name), precision)


def from_pretrained(name: str | os.PathLike, precision: Precision = "float32") -> Network:
    """A trained network by name: of the package, of a folder, or of the Hugging Face Hub.

    Args:
        name: "small-mnist" for example; a folder of `save_pretrained`, by either wing; or
            "owner/name" of one on the Hub, for which the extra `hub` is needed.
        precision: As in `CapsuleNetwork`.

    Raises:
        WeightsError: Where there is no such thing, with the nearest name; or it is a folder of
            other files.
    """
    return _built(*canonical.load_folder(name), precision)


def save_pretrained(
    net: Network,
    folder: str | os.PathLike,
    trained_on: TrainedOn | None = None,
    *,
    force: bool = False,
) -> None:
    """Writes a network as a folder to share: model.safetensors, config.json and README.md, a card.

    Args:
        net: The network.
        folder: The folder to make.
        trained_on: As in `save`.
        force: Whether to replace these files in a folder that is there and not empty.

    Raises:
        WeightsError: Where the folder is there and not empty, without `force`.
    """
    canonical.save_folder(folder, net.spec, to_numpy(net), trained_on, force=force)


def _built(spec: NetworkSpec, arrays: canonical.Arrays, precision: Precision) -> Network:
    net = build(spec, precision=precision)
    from_numpy(net, arrays)
    return net


def write_file(path: str | os.PathLike, arrays: canonical.Arrays, header: str) -> None:
    """Writes a .pt file of {"state_dict": tensors, "twincaps": header}.

    Args:
        path: The file; one that is there is replaced.
        arrays: By canonical name, in torch's axes.
        header: Text.
    """
    state_dict = {name: tensor(np.array(array, order="C")) for name, array in arrays.items()}
    content = io.BytesIO()
    torch.save({"state_dict": state_dict, "twincaps": header}, content)
    canonical.write_whole(path, content.getvalue())


def read_file(path: str | os.PathLike) -> tuple[canonical.Arrays, Any]:
    """The tensors of a .pt file and its header; nothing in it is executed.

    The tensors may stand alone or beside other things (an optimiser, an epoch, NumPy numbers),
    under any key.

    Returns:
        Arrays by the names in the file, in its axes, and the header, None where it has none.

    Raises:
        WeightsError: Where it is not one dict of tensors, or reading it would have to run code.
    """
    try:
        with safe_globals([(_Aside, name) for name in _NUMPY]):  # pyright: ignore[reportArgumentType]
            # Of a file, torch would make room for whatever a size in it claims.
            file = io.BytesIO(Path(path).read_bytes())
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, zip and pickle each have their own
        raise canonical.WeightsError(f"{path}: refused ({_reason(error)}); {_EXPECTED}") from error
    state = _state_dict(path, content)
    names, tensors = list(state), state.values()
    length = os.path.getsize(path)
    try:
        swollen = sum(x.numel() * x.element_size() for x in tensors) > length
        arrays = [] if swollen else [numpy(x) for x in tensors]
    except (TypeError, RuntimeError) as error:  # sparse, quantised, of a dtype NumPy lacks
        raise canonical.WeightsError(f"{path}: holds what is no plain array ({error})") from error
    if swollen:
        raise canonical.WeightsError(f"{path}: its tensors have more numbers than the file")
    return dict(zip(names, arrays, strict=True)), content.get("twincaps")


class _Aside(dict):
    """Stands for a NumPy number or array beside the weights, whose value is unused."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Forgets it."""


def _reason(error: Exception) -> str:
    """What torch said, or the class or function in the file that it does not read."""
    strange = re.search(r"GLOBAL (\S+) was not an allowed", str(error))
    return gist(error) if strange is None else f"it holds {strange[1]} beside its tensors"


def _state_dict(path: str | os.PathLike, content: Any) -> dict[str, Tensor]:
    """The one dict of tensors that a file is, or has under a key."""
    if _is_state_dict(content):
        return content
    beside = content if isinstance(content, dict) else {}
    keys = [key for key, value in beside.items() if _is_state_dict(value)]
    if len(keys) == 1:
        return beside[keys[0]]
    if keys:
        raise canonical.WeightsError(
            f"{path}: holds {len(keys)} dicts of tensors, under {', '.join(map(repr, keys))}; "
            "expected one, save the one you mean alone: "
            f"torch.save(torch.load(path)[{keys[0]!r}], new_path)"
        )
    what = f"a dict of {list(beside)[:20]}" if beside else f"a {type(content).__name__}"
    raise canonical.WeightsError(f"{path}: holds no dict of tensors but {what}; {_EXPECTED}")


def _is_state_dict(content: Any) -> bool:
    values = list(content.values()) if isinstance(content, dict) else []
    tensors = bool(values) and all(isinstance(value, Tensor) for value in values)
    return tensors and all(isinstance(name, str) for name in content)
