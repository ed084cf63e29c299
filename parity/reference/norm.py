"""Normalisation: of a batch, of an image, of a channel of an image.

The numbers of a channel are brought to mean 0 and variance 1, then scaled and shifted:

    y = (x - mean) / sqrt(variance + epsilon) * scale + shift

The variance is the mean of (x - mean)^2 (two passes: E[x^2] - mean^2 would cancel).

Axes: the last is the channels C; the first of `layer` and `instance` is the images.
"""

import math
from collections.abc import Callable

import numpy as np

from parity.reference.arrays import Array, double
from parity.spec import check_count


def _apply(x: Array, mean: Array, variance: Array, scale, shift, epsilon: float) -> Array:
    y = (x - mean) / np.sqrt(variance + epsilon)
    y = y if scale is None else y * double(scale)
    return y if shift is None else y + double(shift)


def batch(
    x,
    scale,
    shift,
    mean,
    variance,
    *,
    train: bool,
    keep: float,
    epsilon: float,
    total: Callable[[Array], Array] | None = None,
) -> tuple[Array, Array, Array]:
    """Batch normalisation: each channel over all images and places.

    Training takes mean and variance of this batch, and moves the running numbers towards them;
    evaluation takes the running numbers. The variance is biased (over n) in the normalisation and
    unbiased (over n - 1) in the running number, as in torch and in Keras' own float32.

    Args:
        x: [..., C].
        scale: [C], or None for 1.
        shift: [C], or None for 0.
        mean: The running mean [C].
        variance: The running variance [C].
        train: Whether this is a training step.
        keep: The share of a running number that a step keeps.
        epsilon: Added to the variance under the root.
        total: The sum of a tensor over the processes that share a batch; None for one process.

    Returns:
        y in the shape of `x`, and the running mean and variance: new in training.

    Raises:
        TwincapsError: In training, for a single number a channel, which has no variance.
    """
    x, mean, variance = double(x), double(mean), double(variance)
    if not train:
        return _apply(x, mean, variance, scale, shift, epsilon), mean, variance
    count = x.size // x.shape[-1]
    if total is None:
        check_count(count)
        total = np.asarray
    axes = tuple(range(x.ndim - 1))
    n = total(np.asarray(float(count)))
    now = total(_sum(x, axes)) / n
    apart = x - now
    spread = total(_sum(apart * apart, axes)) / n
    y = _apply(x, now, spread, scale, shift, epsilon)
    mean = keep * mean + (1 - keep) * np.real(now)
    return y, mean, keep * variance + (1 - keep) * np.real(spread) * (n / (n - 1))


def _sum(x: Array, axes: tuple[int, ...], keepdims: bool = False) -> Array:
    """The sum over axes, which ascend, one after the other.

    Over all but the last at once NumPy adds the numbers one by one, and of thousands loses two
    digits.
    """
    for axis in reversed(axes):
        x = x.sum(axis, keepdims=keepdims)
    return x


def layer(x, scale, shift, *, epsilon: float) -> Array:
    """Layer normalisation: each image over all its places and channels.

    Args:
        x: [B, ..., C].
        scale: [C], or None for 1.
        shift: [C], or None for 0.
        epsilon: Added to the variance under the root.
    """
    x = double(x)
    return _own(x, scale, shift, tuple(range(1, x.ndim)), epsilon)


def instance(x, scale, shift, *, epsilon: float) -> Array:
    """Instance normalisation: each channel of each image over its places.

    Args:
        x: [B, ..., C].
        scale: [C], or None for 1.
        shift: [C], or None for 0.
        epsilon: Added to the variance under the root.
    """
    x = double(x)
    return _own(x, scale, shift, tuple(range(1, x.ndim - 1)), epsilon)


def _own(x: Array, scale, shift, axes: tuple[int, ...], epsilon: float) -> Array:
    """The normalisation by an image's own mean and variance over these axes."""
    n = math.prod(x.shape[axis] for axis in axes)
    mean = _sum(x, axes, keepdims=True) / n
    apart = x - mean
    variance = _sum(apart * apart, axes, keepdims=True) / n
    return _apply(x, mean, variance, scale, shift, epsilon)
