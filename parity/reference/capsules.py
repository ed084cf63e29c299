"""The algebra of capsules: squashes, lengths and votes.

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from parity.reference.arrays import Array, double

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
    """A tap that changes nothing and records nothing."""
    return x


def norm(x: Array, axis: int | tuple[int, ...] = -1) -> Array:
    """|x| over `axis`, kept with size 1; value and gradient are 0 where x is 0."""
    zero = (np.real(x) == 0).all(axis, keepdims=True)
    return np.where(zero, 0, np.sqrt((x * x).sum(axis, keepdims=True)))


def squash(x, axis: int | tuple[int, ...] = -1, epsilon: float = 0.0) -> Array:
    """Shortens each vector to a length below 1, keeping its direction (Eq. 1).

    x * |x| / (1 + |x|^2), without an epsilon: at 0 the value and the gradient are exactly 0.
    With one, x |x|^2 / (1 + |x|^2) / sqrt(|x|^2 + epsilon), as Keras has it (DeepCaps: 1e-7).

    Args:
        x: Vectors along `axis`, of any shape.
        axis: The axis, or axes, that a vector's numbers lie along.
        epsilon: Added to the square under the root.

    Returns:
        The shape of `x`, in float64 or complex128.
    """
    x = double(x)
    if epsilon > 0:
        square = norm(x, axis) ** 2
        return x * square / (1 + square) / np.sqrt(square + epsilon)
    length = norm(x, axis)
    return x * length / (1 + length * length)


def exponential_squash(x, axis: int = -1) -> Array:
    """Shortens each vector to a length below 1, keeping its direction: x (1 - exp(-|x|)) / |x|.

    The squash of Efficient-CapsNet (Mazzia, Salvetti, Chiaberge 2021). At 0 the value is 0 and
    the gradient the identity, the true limit.

    Args:
        x: Vectors along `axis`, of any shape.
        axis: The axis that a vector's numbers lie along.

    Returns:
        The shape of `x`, in float64 or complex128.
    """
    x = double(x)
    length = norm(x, axis)
    zero = np.real(length) == 0
    # expm1, as 1 - exp(-n) loses the digits of a small n, and exp(n) overflows for a large one.
    safe = np.where(zero, 1, length)
    return x * np.where(zero, 1, -np.expm1(-safe) / safe)


def lengths(poses, epsilon: float = 0.0, offset: float = 0.0) -> Array:
    """The length of each pose, [..., D] -> [...]; its gradient at 0 is 0.

    Args:
        poses: Of any shape.
        epsilon: Added to the sum of squares under the root.
        offset: Added to each number of a pose, before it is squared (DeepCaps: 1e-7).
    """
    poses = double(poses) + offset
    if epsilon > 0:
        return np.sqrt((poses * poses).sum(-1) + epsilon)
    return norm(poses)[..., 0]


def votes(inputs_BIK, kernel_IJKD) -> Array:
    """The vote of each input capsule for each output capsule (Eq. 2): u_i W_ij.

    Args:
        inputs_BIK: The poses of the input capsules.
        kernel_IJKD: A matrix for each pair of an input and an output capsule.

    Returns:
        Votes [B, I, J, D].
    """
    return np.einsum("bik,ijkd->bijd", double(inputs_BIK), double(kernel_IJKD))


def matrix_votes(inputs_BIK, kernel_IJPQ) -> Array:
    """The vote of each input capsule for each output capsule, of poses that are matrices: P_i W_ij.

    Args:
        inputs_BIK: Poses of whole matrices, row by row; K = rows * P.
        kernel_IJPQ: A matrix for each pair of an input and an output capsule.

    Returns:
        Votes [B, I, J, D], row by row; D = rows * Q.
    """
    inputs_BIK, kernel_IJPQ = double(inputs_BIK), double(kernel_IJPQ)
    inputs = inputs_BIK.reshape(*inputs_BIK.shape[:2], -1, kernel_IJPQ.shape[2])
    votes = np.einsum("birp,ijpq->bijrq", inputs, kernel_IJPQ)
    return votes.reshape(*votes.shape[:3], -1)


def longest(lengths, count: int | None = None) -> Array:
    """The classes of the longest capsules, the longest first.

    The first of equal lengths counts as longer.

    Args:
        lengths: [..., J].
        count: How many classes; None for all of them.

    Returns:
        Integers [..., count].
    """
    return np.argsort(-np.asarray(lengths), axis=-1, kind="stable")[..., :count]
