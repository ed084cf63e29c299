"""Random numbers to measure with, the same in either wing."""

import numpy as np

from parity.data import Dataset, Split
from parity.spec import NetworkSpec

Digit = tuple[np.ndarray, np.ndarray, np.ndarray]


def digit(spec: NetworkSpec, batch: int, inputs: int) -> Digit:
    """inputs_BIK, shorter than 1 as squashed poses are, kernel_IJKD, and a gradient of poses_BJD.

    Each is filled in place: what is temporary here would be counted as the layer's memory.
    """
    random = np.random.default_rng(0)
    size, classes, pose = spec.primary.size, spec.classes, spec.pose
    return (
        _normal(random, (batch, inputs, size), 0.3 / size**0.5),
        _normal(random, (inputs, classes, size, pose), 0.1),
        _normal(random, (batch, classes, pose), 1.0),
    )


def _normal(random: np.random.Generator, shape: tuple[int, ...], scale: float) -> np.ndarray:
    out = np.empty(shape, np.float32)
    random.standard_normal(out=out, dtype=np.float32)
    out *= scale
    return out


def features(spec: NetworkSpec, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """What the primary convolution gets, NHWC and not negative, and a kernel HWIO for it."""
    random = np.random.default_rng(0)
    height, width, channels = spec.image
    for conv in spec.stem:
        height = (height - conv.kernel) // conv.stride + 1
        width = (width - conv.kernel) // conv.stride + 1
        channels = conv.channels
    size = spec.primary.kernel
    x = np.abs(_normal(random, (batch, height, width, channels), 1.0))
    return x, _normal(random, (size, size, channels, spec.primary.channels), 0.05)


def images(spec: NetworkSpec, count: int) -> Split:
    """Images of random bytes, of every class in turn."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, *spec.image), np.uint8)
    return Split(pixels, np.arange(count) % spec.classes)


def dataset(spec: NetworkSpec, train: int, test: int) -> Dataset:
    """A data set of random images."""
    return Dataset("random", images(spec, train), images(spec, test), spec.classes)
