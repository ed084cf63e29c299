"""Normalisation: of a batch, of an image, of a channel of an image.

The numbers of a channel are brought to mean 0 and variance 1, then scaled and shifted:

    y = (x - mean) / sqrt(variance + epsilon) * scale + shift

The variance is the mean of (x - mean)^2 (two passes: E[x^2] - mean^2 would cancel). Pure functions:
new running numbers come back as values, and a Trainer puts them into the network.

Axes: the last is the channels C; the first of `layer` and `instance` is the images.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax

from parity.spec import check_count

Total = Callable[[Array], Array]  # the sum of a tensor over the processes that share a batch


def _apply(
    x: Array,
    mean: Array,
    variance: Array,
    scale: Array | None,
    shift: Array | None,
    epsilon: float,
) -> Array:
    # A channel is the last axis everywhere; ranks are made equal, as they are never promoted.
    wide = (1,) * (x.ndim - 1)
    mean, variance = (m if m.ndim == x.ndim else m.reshape(*wide, -1) for m in (mean, variance))
    y = (x - mean) / jnp.sqrt(variance + epsilon)
    y = y if scale is None else y * scale.reshape(*wide, -1)
    return y if shift is None else y + shift.reshape(*wide, -1)


def batch(
    x: Array,
    scale: Array | None,
    shift: Array | None,
    mean: Array,
    variance: Array,
    *,
    train: bool,
    keep: float,
    epsilon: float,
    total: Total | None = None,
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
        SpecError: In training, for a single number a channel, which has no variance.
    """
    if not train:
        return _apply(x, mean, variance, scale, shift, epsilon), mean, variance
    count, axes = x.size // x.shape[-1], tuple(range(x.ndim - 1))
    n = jnp.asarray(float(count), x.dtype)
    if total is None:
        check_count(count)
        now = x.mean(axes, keepdims=True)
        spread = ((x - now) ** 2).mean(axes, keepdims=True)
    else:
        n = total(n)
        now = total(x.sum(axes, keepdims=True)) / n
        spread = total(((x - now) ** 2).sum(axes, keepdims=True)) / n
    y = _apply(x, now, spread, scale, shift, epsilon)
    now, spread = (lax.stop_gradient(each).reshape(-1) for each in (now, spread))
    mean = keep * mean + (1 - keep) * now
    return y, mean, keep * variance + (1 - keep) * spread * (n / (n - 1))


def layer(x: Array, scale: Array | None, shift: Array | None, *, epsilon: float) -> Array:
    """Layer normalisation: each image over all its places and channels.

    Args:
        x: [B, ..., C].
        scale: [C], or None for 1.
        shift: [C], or None for 0.
        epsilon: Added to the variance under the root.
    """
    return _own(x, scale, shift, tuple(range(1, x.ndim)), epsilon)


def instance(x: Array, scale: Array | None, shift: Array | None, *, epsilon: float) -> Array:
    """Instance normalisation: each channel of each image over its places.

    Args:
        x: [B, ..., C].
        scale: [C], or None for 1.
        shift: [C], or None for 0.
        epsilon: Added to the variance under the root.
    """
    return _own(x, scale, shift, tuple(range(1, x.ndim - 1)), epsilon)


def _own(
    x: Array,
    scale: Array | None,
    shift: Array | None,
    axes: tuple[int, ...],
    epsilon: float,
) -> Array:
    """The normalisation by an image's own mean and variance over these axes."""
    mean = x.mean(axes, keepdims=True)
    variance = ((x - mean) ** 2).mean(axes, keepdims=True)
    return _apply(x, mean, variance, scale, shift, epsilon)
