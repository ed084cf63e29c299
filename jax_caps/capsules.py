"""The algebra of capsules: squashes, lengths and votes.

Equations are those of Sabour, Frosst, Hinton, "Dynamic Routing Between Capsules" (2017).

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

Tap = Callable[[str, Array], Array]


class Capsules(NamedTuple):
    """Capsules: their poses [..., D], None for those that have none, and activations [...].

    Without activations they are as active as their poses are long. Where activations may underflow
    their logarithms say more, and a loss takes these.
    """

    poses: Array | None
    activations: Array | None = None
    log_activations: Array | None = None


def no_tap(name: str, x: Array) -> Array:
    """A tap that does nothing; `tracing.trace` passes one that records."""
    return x


def squash(x: Array, axis: int | tuple[int, ...] = -1, epsilon: float = 0.0) -> Array:
    """Shortens each vector to a length below 1, keeping its direction (Eq. 1).

    x * |x| / (1 + |x|^2), without an epsilon: at 0 the value and the gradient are exactly 0.
    With one, x |x|^2 / (1 + |x|^2) / sqrt(|x|^2 + epsilon), as Keras has it (DeepCaps: 1e-7).

    Args:
        x: Vectors along `axis`, of any shape and floating dtype.
        axis: The axis, or axes, that a vector's numbers lie along.
        epsilon: Added to the square under the root.

    Returns:
        The shape and dtype of `x`.
    """
    square = (x * x).sum(axis, keepdims=True)
    if epsilon > 0:
        return x * (square / (1.0 + square) / jnp.sqrt(square + epsilon))
    zero = square == 0
    # A second `where` inside keeps the root's infinite slope at 0 out of the gradient.
    safe = jnp.where(zero, 1.0, square)
    return jnp.where(zero, 0.0, x * (jnp.sqrt(safe) / (1.0 + safe)))


def exponential_squash(x: Array, axis: int = -1) -> Array:
    """Shortens each vector to a length below 1, keeping its direction: x (1 - exp(-|x|)) / |x|.

    The squash of Efficient-CapsNet (Mazzia, Salvetti, Chiaberge 2021). At 0 the value is 0 and
    the gradient the identity, the true limit.

    Args:
        x: Vectors along `axis`, of any shape and floating dtype.
        axis: The axis that a vector's numbers lie along.

    Returns:
        The shape and dtype of `x`.
    """
    square = (x * x).sum(axis, keepdims=True)
    zero = square == 0
    length = jnp.sqrt(jnp.where(zero, 1.0, square))
    # expm1, as 1 - exp(-n) loses the digits of a small n, and exp(n) overflows for a large one.
    return x * jnp.where(zero, 1.0, -jnp.expm1(-length) / length)


def lengths(poses: Array, epsilon: float = 0.0, offset: float = 0.0) -> Array:
    """The length of each pose, [..., D] -> [...]; its gradient at 0 is 0.

    Args:
        poses: Of any shape.
        epsilon: Added to the sum of squares under the root.
        offset: Added to each number of a pose, before it is squared (DeepCaps: 1e-7).
    """
    poses = poses + offset if offset else poses
    square = (poses * poses).sum(-1)
    if epsilon > 0:
        return jnp.sqrt(square + epsilon)
    zero = square == 0
    # Twice, as in `squash`.
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, square)))


def votes(inputs_BIK: Array, kernel_IJKD: Array) -> Array:
    """The vote of each input capsule for each output capsule (Eq. 2): u_i W_ij.

    Args:
        inputs_BIK: The poses of the input capsules.
        kernel_IJKD: A matrix for each pair of an input and an output capsule.

    Returns:
        Votes [B, I, J, D].
    """
    return jnp.einsum("bik,ijkd->bijd", inputs_BIK, kernel_IJKD)


def matrix_votes(inputs_BIK: Array, kernel_IJPQ: Array) -> Array:
    """The vote of each input capsule for each output capsule, of poses that are matrices: P_i W_ij.

    Args:
        inputs_BIK: Poses of whole matrices, row by row; K = rows * P.
        kernel_IJPQ: A matrix for each pair of an input and an output capsule.

    Returns:
        Votes [B, I, J, D], row by row; D = rows * Q.
    """
    inputs = inputs_BIK.reshape(*inputs_BIK.shape[:2], -1, kernel_IJPQ.shape[2])
    votes = jnp.einsum("birp,ijpq->bijrq", inputs, kernel_IJPQ)
    return votes.reshape(*votes.shape[:3], -1)


def longest(lengths: Array, count: int | None = None) -> Array:
    """The classes of the longest capsules, the longest first.

    The first of equal lengths counts as longer.

    Args:
        lengths: [..., J].
        count: How many classes; None for all of them.

    Returns:
        Integers [..., count].
    """
    return jnp.argsort(-lengths, -1, stable=True)[..., :count]
