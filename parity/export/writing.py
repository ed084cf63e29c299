"""Writes a network's forward pass to a file, in the format that its ending names."""

import os
from collections.abc import Callable
from pathlib import Path

from parity.convert.installed import needed
from parity.export.model import build
from parity.runs.disk import telling
from parity.saved import Known, find
from parity.spec import TwincapsError
from parity.weights import write_whole


def _onnx(known: Known, path: Path) -> bytes:
    needed("onnx", path)
    model = build(known.spec, known.arrays, known.trained_on, known.source)
    return model.SerializeToString(deterministic=True)


def _torch(known: Known, path: Path) -> bytes:
    return _by_wing("torch_caps", known, path)


def _jax(known: Known, path: Path) -> bytes:
    needed("flatbuffers", path)  # jax.export writes with it, and JAX does not bring it
    return _by_wing("jax_caps", known, path)


def _by_wing(package: str, known: Known, path: Path) -> bytes:
    wing = needed(f"{package}.export", path)
    net = needed(f"{package}.networks", path).build(known.spec)
    needed(f"{package}.weights", path).from_numpy(net, known.arrays)
    return wing.serialize(net, known.trained_on.things)


# ending -> what makes the file's content of a network
ENDINGS: dict[str, Callable[[Known, Path], bytes]] = {
    ".onnx": _onnx,
    ".pt2": _torch,
    ".jax": _jax,
}


def export(
    name: str, out: str | os.PathLike, *, averaged: bool = False, force: bool = False
) -> Known:
    """Writes a saved network's forward pass, in float32 and for any batch; returns the network.

    Args:
        name: A network that comes with twincaps, a run (its newest checkpoint), one checkpoint of
            it, or a .safetensors file.
        out: The file: .onnx, .pt2 (torch.export) or .jax (jax.export).
        averaged: Moving averages of the weights instead, of a run trained with `ema`.
        force: Whether to replace `out`.

    Raises:
        TwincapsError: Where the ending is unknown, `out` is there, a package is missing, or the
            network cannot be found or expressed; `out` stays as it was.
    """
    path = Path(out)
    if path.suffix not in ENDINGS:
        raise TwincapsError(f"{path}: ends in none of {', '.join(ENDINGS)}; name a file that does")
    if path.is_dir() or (path.exists() and not force):
        raise TwincapsError(f"{path}: exists; choose another name, or --force to replace a file")
    known = find(name, averaged)
    content = ENDINGS[path.suffix](known, path)
    with telling(path, "write it", "nothing was changed"):
        write_whole(path, content)
    return known
