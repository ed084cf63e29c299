"""Weights in files: canonical, native, and those that come with twincaps."""

import os
from typing import Any

import numpy as np
from flax import serialization, traverse_util

from jax_caps.arrays import from_numpy, to_numpy
from jax_caps.networks import Network, build
from parity import weights as canonical
from parity.spec import NetworkSpec, Precision, TrainedOn, gist

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
    """Writes a .msgpack file of {"params": nested dicts, "twincaps": header}.

    Args:
        path: The file; one that is there is replaced.
        arrays: By canonical name, in JAX's axes.
        header: Text.
    """
    parts = {tuple(_key(key) for key in name.split(".")): arrays[name] for name in arrays}
    content = {"params": traverse_util.unflatten_dict(parts), "twincaps": header}
    canonical.write_whole(path, serialization.msgpack_serialize(content))


def read_file(path: str | os.PathLike) -> tuple[canonical.Arrays, Any]:
    """The arrays of a .msgpack file and its header.

    The arrays are a nested dict, alone or under "params", beside other things (an epoch, a score);
    lists may have become dicts of numbers.

    Returns:
        Arrays by their names in the file, joined by dots, in its axes; and the header, None where
        it has none.

    Raises:
        WeightsError: Where it is not a whole file of nested dicts of arrays.
    """
    try:
        with open(path, "rb") as file:
            content = serialization.msgpack_restore(file.read())
    except Exception as error:  # msgpack and flax each have their own
        raise canonical.WeightsError(
            f"{path}: not a whole .msgpack file ({gist(error)})"
        ) from error
    header, tree = None, content
    if isinstance(content, dict):
        header = content.pop("twincaps", None)
        # An epoch, a step or a score beside dicts of arrays is none of the network's.
        dicts = {key: item for key, item in content.items() if isinstance(item, dict | np.ndarray)}
        tree = content.get("params", dicts or content)
    try:
        flat = traverse_util.flatten_dict(tree) if isinstance(tree, dict) else {("all",): tree}
    except RecursionError as error:
        raise canonical.WeightsError(f"{path}: its dicts have no end; expected a few") from error
    named = {".".join(map(str, parts)): item for parts, item in flat.items()}
    arrays = {name: item for name, item in named.items() if isinstance(item, np.ndarray)}
    if strange := sorted(named.keys() - arrays.keys()):
        raise canonical.WeightsError(f"{path}: no array: {strange[:20]}; expected a pure dict")
    return arrays, header


def _key(key: str) -> str | int:
    return int(key) if key.isdigit() else key
