"""The first weights, drawn in NumPy: a seed means one network in both wings."""

import hashlib

import numpy as np

from parity.spec import NetworkSpec, Tensor
from parity.weights._table import Arrays, table


def generator(seed: int, name: str) -> np.random.Generator:
    """A generator that depends on (seed, name) alone: Philox keyed by SHA-256."""
    key = hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=np.frombuffer(key, "<u8")))


def draw(spec: NetworkSpec, seed: int) -> Arrays:
    """The first weights of `seed`, float32, each drawn by (seed, its name).

    Kernels are normal, whole or cut at two standard deviations by drawing again, as in the authors'
    code of 2017, or uniform; biases and state are constant. A tensor's values do not depend on
    which others the network has.
    """
    return {name: _first(row, seed, name) for name, row in table(spec).items()}


def _first(row: Tensor, seed: int, name: str) -> np.ndarray:
    if row.std == row.bound == 0:
        return np.full(row.shape, row.value, np.float32)
    random = generator(seed, name)
    if row.bound > 0:
        return random.uniform(-row.bound, row.bound, row.shape).astype(np.float32)
    values = random.standard_normal(row.shape)
    while not row.whole and (far := np.abs(values) > 2).any():
        values[far] = random.standard_normal(int(far.sum()))
    return (values * row.std).astype(np.float32)
