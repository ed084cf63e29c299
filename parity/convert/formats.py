"""The kinds of files: recognised by their content, read and written.

    canonical    .safetensors in canonical axes, which both wings read themselves
    torch        .pt, or .safetensors in torch's axes: a state_dict of torch_caps
    flax         .msgpack: {"params": the pure dict of a jax_caps network, "twincaps": header}
    orbax        a folder: the pure dict as an orbax checkpoint, the header in twincaps.json
    keras, npz   read alone

All that are written carry the same header (spec, axes, sha256) as canonical ones.
"""

import json
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parity import weights
from parity.convert import orbax_folder
from parity.convert.installed import needed
from parity.convert.layouts import Layout
from parity.convert.names import unwrapped
from parity.data import DataError
from parity.data.formats import packed
from parity.runs import holds_run
from parity.spec import NetworkSpec, TrainedOn, TwincapsError, gist, to_dict
from parity.weights import Arrays, WeightsError

TORCH = "twincaps-torch-weights"
SUFFIXES = {
    "canonical": (".safetensors",),
    "torch": (".pt", ".pth", ".safetensors"),
    "flax": (".msgpack",),
    "orbax": ("",),
}


@dataclass(frozen=True)
class File:
    """The content of a file as it is: its kind, tensors and header, if any.

    Attributes:
        path: The file; of orbax the folder of one checkpoint.
        taken: What the framework's tools had put around the names, parts of which are taken off.
    """

    path: Path
    kind: str
    tensors: Arrays
    header: dict[str, Any] | None
    taken: tuple[str, ...] = ()


def kind_of(path: Path) -> str:
    """The kind of a file or folder, by its content; TwincapsError if unknown."""
    if path.is_dir():
        if holds_run(path):
            return "run"
        if (path / "weights.safetensors").is_file():
            return "checkpoint"
        if orbax_folder.checkpoint(path) is not None:
            return "orbax"
        raise TwincapsError(f"{path}: neither a run, a checkpoint of one, nor an orbax checkpoint")
    if not path.is_file():
        raise TwincapsError(f"{path}: no such file or folder")
    with open(path, "rb") as file:
        start = file.read(16)
    if start[6:9] == b"\0\0{":  # the header's length as 8 bytes, then JSON
        return "safetensors"
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "keras"
    if start.startswith(b"PK"):
        return "torch" if _holds_a_pickle(path) else "npz"
    if start[:1] == b"\x80" and len(start) > 1:
        return "torch"  # a bare pickle, as torch.save wrote before version 1.6
    if start[:1] in (b"\xde", b"\xdf") or b"\x80" < start[:1] < b"\x90":
        return "msgpack"
    raise TwincapsError(
        f"{path}: of an unknown kind, it begins with {start!r}; expected .safetensors, .pt, "
        ".msgpack, .h5, .npz, an orbax checkpoint or a run folder"
    )


def _holds_a_pickle(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return any(name.endswith(".pkl") for name in file.namelist())
    except Exception as error:  # zipfile raises many kinds for a damaged file
        raise WeightsError(f"{path}: not a whole .pt or .npz file ({error})") from error


def read(path: Path, layout: Layout | None = None) -> File:
    """Any file of tensors with names; a header is verified against its sha256.

    Args:
        path: The file or folder.
        layout: What the names are to fit, where it is not one that we know.
    """
    kind = kind_of(path)
    if kind == "safetensors":
        arrays, header = weights.read_arrays(path)
    elif kind == "torch":
        arrays, header = needed("torch_caps.weights", path).read_file(path)
    elif kind == "msgpack":
        arrays, header = needed("jax_caps.weights", path).read_file(path)
    elif kind == "orbax":
        path = orbax_folder.checkpoint(path) or path
        arrays, header = orbax_folder.read(path)
    elif kind == "keras":
        arrays, header = _read_keras(path), None
    elif kind == "npz":
        arrays, header = _read_npz(path), None
    else:
        raise TwincapsError(f"{path}: a {kind} folder, expected a file of weights")
    if isinstance(header, str):
        try:
            header = json.loads(header)
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"{path}: its twincaps header is no JSON ({error})") from error
    if header is not None:
        header_format = header.get("format") if isinstance(header, dict) else None
        expected = header_format if isinstance(header_format, str) else "weights of twincaps"
        weights.verify(path, arrays, header, expected)
        return File(path, kind, arrays, header)
    named, taken = unwrapped(arrays, layout)
    return File(path, kind, named, None, taken)


def _read_npz(path: Path) -> Arrays:
    try:
        return packed.npz(path)
    except DataError as error:
        raise WeightsError(str(error)) from error


def _read_keras(path: Path) -> Arrays:
    """The arrays of a .h5 file, named as Keras names its variables.

    That is the path in the file without its layer's group; where several arrays share such a name,
    they keep their whole paths, and so do all where the groups are several models, each with
    layers of its own.
    """
    h5py, arrays = needed("h5py", path), {}

    def keep(name: str | bytes, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            _refuse_swollen(item, path.stat().st_size)
            # h5py leaves a name that is no text as bytes.
            name = name if isinstance(name, str) else name.decode(errors="backslashreplace")
            arrays[name] = np.asarray(item)

    try:
        with h5py.File(path, "r") as file:
            file.get("model_weights", file).visititems(keep)
    except Exception as error:  # h5py raises many kinds for a damaged file
        raise WeightsError(f"{path}: not a whole .h5 file ({gist(error)})") from error
    layers = {tuple(name.split("/")[:2]) for name in arrays if name.count("/") > 1}
    models = Counter(model for model, _ in layers)
    if sum(count > 1 for count in models.values()) > 1:
        return arrays
    short = {name: name.partition("/")[2] or name for name in arrays}
    count = Counter(short.values())
    return {name if count[short[name]] > 1 else short[name]: arrays[name] for name in arrays}


def _refuse_swollen(item: Any, length: int) -> None:
    """Raises ValueError for a data set larger than its bytes, or in another file."""
    if item.external or item.is_virtual:
        raise ValueError(f"{item.name} is kept in another file")
    stored = item.id.get_storage_size()
    most = min(stored, length) * (packed.EXPANSION if item.chunks else 1)
    if item.dtype.kind not in "fiub" or item.size * item.dtype.itemsize > most:
        raise ValueError(f"{item.name} of {item.shape} {item.dtype} in {stored} bytes")


def format_of(path: Path, to: str | None) -> str:
    """The format to write: `to`, or what the suffix says; raises TwincapsError."""
    if to is None:
        formats = [name for name, suffixes in SUFFIXES.items() if path.suffix in suffixes]
        if not path.suffix or not formats:
            raise TwincapsError(
                f"{path}: its suffix names no format; say --to {', '.join(SUFFIXES)}"
            )
        return formats[0]
    if to not in SUFFIXES:
        raise TwincapsError(f"format {to!r} is unknown; expected one of {', '.join(SUFFIXES)}")
    if to != "orbax" and path.suffix not in SUFFIXES[to]:
        raise TwincapsError(f"{path}: --to {to} expects a suffix {', '.join(SUFFIXES[to])}")
    return to


def write(
    path: Path, to: str, spec: NetworkSpec, arrays: Arrays, trained_on: TrainedOn | None = None
) -> None:
    """Writes canonical weights in a format of `SUFFIXES`, whole or not at all."""
    rows = weights.table(spec)
    weights.check(arrays, rows)
    if to == "canonical":
        weights.save(path, spec, arrays, trained_on)
        return
    wing = "torch_caps" if to == "torch" else "jax_caps"
    orders = needed(f"{wing}.arrays", path).axes(spec)
    turned = {
        name: np.array(weights.transpose(arrays[name], *orders[name]), order="C") for name in rows
    }
    header = {
        "format": TORCH if to == "torch" else weights.FORMAT,
        "schema": weights.SCHEMA,
        "axes": {name: order for name, (_, order) in orders.items()},
        "spec": to_dict(spec),
    }
    if trained_on is not None:
        header["trained_on"] = to_dict(trained_on)
    if path.suffix == ".safetensors":
        weights.save_arrays(path, turned, header)
        return
    header["sha256"] = weights.digest(turned, header)
    writer = orbax_folder.write if to == "orbax" else needed(f"{wing}.weights", path).write_file
    writer(path, turned, json.dumps(header, sort_keys=True))
