"""Files of weights in every format that the wings at hand can write."""

from dataclasses import dataclass
from pathlib import Path

import ml_dtypes  # noqa: F401 (registers bfloat16)
import numpy as np
import pytest
import wings
from specs import PRIMES

from parity import weights
from parity.convert import convert
from parity.spec import NetworkSpec
from parity.weights import FLOATS


@dataclass(frozen=True)
class Format:
    """A format to write: the flag, a name for the file, and the wing that it needs."""

    to: str
    file: str
    wing: str | None


FORMATS = {
    name: each
    for name, each in {
        "canonical": Format("canonical", "w.safetensors", None),
        "pt": Format("torch", "w.pt", "torch"),
        "torch safetensors": Format("torch", "t.safetensors", "torch"),
        "msgpack": Format("flax", "w.msgpack", "jax"),
        "orbax": Format("orbax", "folder", "jax"),
    }.items()
    if each.wing in (None, *wings.NAMES)
}
FILES = [name for name in FORMATS if name != "orbax"]
TORCH = pytest.mark.skipif("torch" not in wings.NAMES, reason="needs the PyTorch wing")
JAX = pytest.mark.skipif("jax" not in wings.NAMES, reason="needs the JAX wing")


def draw(spec: NetworkSpec, dtypes=FLOATS, seed: int = 0) -> weights.Arrays:
    """Random numbers in every tensor, their dtypes in turn."""
    random = np.random.default_rng(seed)
    return {
        name: random.normal(0, 1, row.shape).astype(dtypes[n % len(dtypes)])
        for n, (name, row) in enumerate(weights.table(spec).items())
    }


def make(folder: Path, name: str, spec: NetworkSpec = PRIMES, dtypes=FLOATS) -> Path:
    """A file of a format, and beside it the canonical one it was made from: source.safetensors."""
    source = folder / "source.safetensors"
    weights.save(source, spec, draw(spec, dtypes))
    path = folder / FORMATS[name].file
    convert(source, path, to=FORMATS[name].to)
    return path


def travels(wing, spec: NetworkSpec, arrays: weights.Arrays, folder: Path) -> None:
    """Weights go into a network, its file, its framework's file and back, bit for bit."""
    net = wing.build(spec, seed=4)
    wing.weights.from_numpy(net, arrays)
    wing.weights.save(net, folder / "a.safetensors")
    loaded = wing.weights.to_numpy(wing.weights.load(folder / "a.safetensors"))
    for name, array in arrays.items():
        assert (loaded[name] == array).all(), name
    native = folder / ("a.pt" if wing.__name__ == "torch_caps" else "a.msgpack")
    convert(folder / "a.safetensors", native)
    convert(native, folder / "b.safetensors")
    first, second = ((folder / name).read_bytes() for name in ("a.safetensors", "b.safetensors"))
    assert first == second
