"""Margin and reconstruction loss, for each sample and as the mean over a batch.

Axes: B batch, J classes.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jax_caps.arrays import concrete
from parity.spec import check_targets


def one_hot(targets: Array, classes: int, dtype: DTypeLike) -> Array:
    """Integer labels [B], or 0/1 targets [B, J], as [B, J] of `dtype`.

    Raises SpecError for other shapes, for what are no whole numbers, and for labels of no class
    where their values can be looked at (`arrays.concrete`).
    """
    check_targets(concrete(targets), classes)
    if targets.ndim == 1:
        return jax.nn.one_hot(targets, classes, dtype=dtype)
    return targets.astype(dtype)


def margin_each(
    lengths_BJ: Array,
    targets: Array,
    *,
    positive: float = 0.9,
    negative: float = 0.1,
    down_weight: float = 0.5,
    scale: float = 1.0,
) -> Array:
    """The margin loss (Eq. 4) of each sample, summed over classes: [B]."""
    check_targets(concrete(targets), lengths_BJ.shape[-1], len(lengths_BJ))
    present_BJ = one_hot(targets, lengths_BJ.shape[-1], lengths_BJ.dtype)
    short_BJ = jax.nn.relu(positive - lengths_BJ) ** 2
    long_BJ = jax.nn.relu(lengths_BJ - negative) ** 2
    return scale * (present_BJ * short_BJ + down_weight * (1.0 - present_BJ) * long_BJ).sum(-1)


def margin(
    lengths_BJ: Array,
    targets: Array,
    *,
    positive: float = 0.9,
    negative: float = 0.1,
    down_weight: float = 0.5,
    scale: float = 1.0,
) -> Array:
    """The margin loss (Eq. 4): summed over classes, mean over the batch, a scalar.

    targets      integer labels [B], or 0/1 [B, J] where several classes may be present
    positive     length above which a present class costs nothing (m+)
    negative     length below which an absent class costs nothing (m-)
    down_weight  of the absent classes (lambda)
    scale        multiplies the whole: 1 in the paper, 0.5 / J in the authors' code
    """
    return margin_each(
        lengths_BJ,
        targets,
        positive=positive,
        negative=negative,
        down_weight=down_weight,
        scale=scale,
    ).mean()


def correct_each(lengths_BJ: Array, targets: Array) -> Array:
    """1 where the classes present are the longest of all, else 0: [B]; targets as in `margin`.

    With one class, where its capsule is the longest. The first of equal lengths counts as longer.
    """
    if targets.ndim == 1:
        return (lengths_BJ.argmax(-1) == targets).astype(lengths_BJ.dtype)
    order_BJ = jnp.argsort(-lengths_BJ, -1, stable=True)
    present_BJ = one_hot(targets, lengths_BJ.shape[-1], lengths_BJ.dtype)
    ranked_BJ = jnp.take_along_axis(present_BJ, order_BJ, -1)
    # right where none that is present comes after one that is not
    return (ranked_BJ[:, 1:] <= ranked_BJ[:, :-1]).all(-1).astype(lengths_BJ.dtype)


def reconstruction_each(reconstructions: Array, images: Array) -> Array:
    """The sum of squared errors of each image: [B, ...] twice -> [B]."""
    return ((reconstructions - images) ** 2).reshape(len(images), -1).sum(-1)


def reconstruction(reconstructions: Array, images: Array) -> Array:
    """The sum of squared errors of an image, mean over the batch; the spec weighs it (0.0005)."""
    return reconstruction_each(reconstructions, images).mean()
