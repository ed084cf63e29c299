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
