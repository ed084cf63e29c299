"""Normalisation: of a batch, of an image, of a channel of an image.

The numbers of a channel are brought to mean 0 and variance 1, then scaled and shifted:

    y = (x - mean) / sqrt(variance + epsilon) * scale + shift

The variance is the mean of (x - mean)^2 (two passes: E[x^2] - mean^2 would cancel). Pure functions:
new running numbers come back as values, and a Trainer puts them into the network.

Axes: the last is the channels C; the first of `layer` and `instance` is the images.
"""

import math
from collections.abc import Callable

from torch import Tensor

from parity.spec import check_count

Total = Callable[[Tensor], Tensor]  # the sum of a tensor over the processes that share a batch


def _apply(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    epsilon: float,
) -> Tensor:
    y = (x - mean) / (variance + epsilon).sqrt()
    y = y if scale is None else y * scale
    return y if shift is None else y + shift


def batch(
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    *,
    train: bool,
    keep: float,
    epsilon: float,
    total: Total | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
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
    count, axes = x.numel() // x.shape[-1], tuple(range(x.ndim - 1))
    n = x.new_tensor(float(count))
    if total is None:
        check_count(count)
        now = _sum(x, axes) / n
        spread = _sum((x - now) ** 2, axes) / n
    else:
        n = total(n)
        now = total(_sum(x, axes)) / n
        spread = total(_sum((x - now) ** 2, axes)) / n
    y = _apply(x, now, spread, scale, shift, epsilon)
    mean = keep * mean + (1 - keep) * now.detach()
    return y, mean, keep * variance + (1 - keep) * spread.detach() * (n / (n - 1))


def _sum(x: Tensor, axes: tuple[int, ...], keepdim: bool = False) -> Tensor:
    """The sum over axes, which ascend.

    One axis after the other: compiled, a sum over all of them adds the numbers one by one, and
    thousands of float32 lose a digit.
    """
    for axis in reversed(axes):
        x = x.sum(axis, keepdim=keepdim)
    return x


def layer(x: Tensor, scale: Tensor | None, shift: Tensor | None, *, epsilon: float) -> Tensor:
    """Layer normalisation: each image over all its places and channels.

    Args:
        x: [B, ..., C].
        scale: [C], or None for 1.
        shift: [C], or None for 0.
        epsilon: Added to the variance under the root.
    """
    return _own(x, scale, shift, tuple(range(1, x.ndim)), epsilon)


def instance(x: Tensor, scale: Tensor | None, shift: Tensor | None, *, epsilon: float) -> Tensor:
    """Instance normalisation: each channel of each image over its places.

    Args:
        x: [B, ..., C].
        scale: [C], or None for 1.
        shift: [C], or None for 0.
        epsilon: Added to the variance under the root.
    """
    return _own(x, scale, shift, tuple(range(1, x.ndim - 1)), epsilon)


def _own(
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    axes: tuple[int, ...],
    epsilon: float,
) -> Tensor:
    """The normalisation by an image's own mean and variance over these axes."""
    n = math.prod(x.shape[axis] for axis in axes)
    mean = _sum(x, axes, keepdim=True) / n
    variance = _sum((x - mean) ** 2, axes, keepdim=True) / n
    return _apply(x, mean, variance, scale, shift, epsilon)
