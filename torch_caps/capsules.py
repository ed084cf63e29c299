"""The algebra of capsules: squashes, lengths and votes.

Equations are those of Sabour, Frosst, Hinton, "Dynamic Routing Between Capsules" (2017).

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Tap = Callable[[str, Tensor], Tensor]


class Capsules(NamedTuple):
    """Capsules: their poses [..., D], None for those that have none, and activations [...].

    Without activations they are as active as their poses are long. Where activations may underflow
    their logarithms say more, and a loss takes these.
    """

    poses: Tensor | None
    activations: Tensor | None = None
    log_activations: Tensor | None = None


def no_tap(name: str, x: Tensor) -> Tensor:
    """A tap that does nothing; `tracing.trace` passes one that records."""
    return x


def squash(x: Tensor, axis: int | tuple[int, ...] = -1, epsilon: float = 0.0) -> Tensor:
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
    square = (x * x).sum(axis, keepdim=True)
    if epsilon > 0:
        return x * (square / (1.0 + square) / (square + epsilon).sqrt())
    zero = square == 0
    # A second `where` inside keeps the root's infinite slope at 0 out of the gradient.
    safe = torch.where(zero, 1.0, square)
    return torch.where(zero, 0.0, x * (safe.sqrt() / (1.0 + safe)))


def exponential_squash(x: Tensor, axis: int = -1) -> Tensor:
    """Shortens each vector to a length below 1, keeping its direction: x (1 - exp(-|x|)) / |x|.

    The squash of Efficient-CapsNet (Mazzia, Salvetti, Chiaberge 2021). At 0 the value is 0 and
    the gradient the identity, the true limit.

    Args:
        x: Vectors along `axis`, of any shape and floating dtype.
        axis: The axis that a vector's numbers lie along.

    Returns:
        The shape and dtype of `x`.
    """
    square = (x * x).sum(axis, keepdim=True)
    zero = square == 0
    length = torch.where(zero, 1.0, square).sqrt()
    # expm1, as 1 - exp(-n) loses the digits of a small n, and exp(n) overflows for a large one.
    return x * torch.where(zero, 1.0, -torch.expm1(-length) / length)


def lengths(poses: Tensor, epsilon: float = 0.0, offset: float = 0.0) -> Tensor:
    """The length of each pose, [..., D] -> [...]; its gradient at 0 is 0.

    Args:
        poses: Of any shape.
        epsilon: Added to the sum of squares under the root.
        offset: Added to each number of a pose, before it is squared (DeepCaps: 1e-7).
    """
    poses = poses + offset if offset else poses
    square = (poses * poses).sum(-1)
    if epsilon > 0:
        return (square + epsilon).sqrt()
    zero = square == 0
    # Twice, as in `squash`.
    return torch.where(zero, 0.0, torch.where(zero, 1.0, square).sqrt())


def votes(inputs_BIK: Tensor, kernel_IJKD: Tensor) -> Tensor:
    """The vote of each input capsule for each output capsule (Eq. 2): u_i W_ij.

    Args:
        inputs_BIK: The poses of the input capsules.
        kernel_IJKD: A matrix for each pair of an input and an output capsule.

    Returns:
        Votes [B, I, J, D].
    """
    return torch.einsum("bik,ijkd->bijd", inputs_BIK, kernel_IJKD)


def matrix_votes(inputs_BIK: Tensor, kernel_IJPQ: Tensor) -> Tensor:
    """The vote of each input capsule for each output capsule, of poses that are matrices: P_i W_ij.

    Args:
        inputs_BIK: Poses of whole matrices, row by row; K = rows * P.
        kernel_IJPQ: A matrix for each pair of an input and an output capsule.

    Returns:
        Votes [B, I, J, D], row by row; D = rows * Q.
    """
    inputs = inputs_BIK.reshape(*inputs_BIK.shape[:2], -1, kernel_IJPQ.shape[2])
    votes = torch.einsum("birp,ijpq->bijrq", inputs, kernel_IJPQ)
    return votes.reshape(*votes.shape[:3], -1)


def longest(lengths: Tensor, count: int | None = None) -> Tensor:
    """The classes of the longest capsules, the longest first.

    The first of equal lengths counts as longer.

    Args:
        lengths: [..., J].
        count: How many classes; None for all of them.

    Returns:
        Integers [..., count].
    """
    return lengths.argsort(dim=-1, descending=True, stable=True)[..., :count]
