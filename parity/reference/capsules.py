"""The algebra of capsules: squash, lengths and votes.

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose.
"""

from collections.abc import Callable

import numpy as np

from parity.reference.arrays import Array, double

Tap = Callable[[str, Array], Array]


def no_tap(name: str, x: Array) -> Array:
    """The tap that does nothing."""
    return x


def norm(x: Array, axis: int = -1) -> Array:
    """|x| over `axis`, kept with size 1; value and gradient are exactly 0 where x is 0."""
    zero = (np.real(x) == 0).all(axis, keepdims=True)
    return np.where(zero, 0, np.sqrt((x * x).sum(axis, keepdims=True)))


def squash(x, axis: int = -1) -> Array:
    """Eq. 1: x * |x| / (1 + |x|^2) over `axis`, any shape; value and gradient 0 at x = 0."""
    x = double(x)
    length = norm(x, axis)
    return x * length / (1 + length * length)


def lengths(poses) -> Array:
    """|v| over the last axis, [..., D] -> [...]: how likely each capsule's entity is there."""
    return norm(double(poses))[..., 0]


def votes(inputs_BIK, kernel_IJKD) -> Array:
    """Eq. 2, right: what input i predicts for output j, u_i W_ij, as votes_BIJD."""
    return np.einsum("bik,ijkd->bijd", double(inputs_BIK), double(kernel_IJKD))


def longest(lengths, count: int | None = None) -> Array:
    """The classes of the `count` longest capsules, [..., count], or of all; longest first.

    The first of equal lengths counts as longer.
    """
    return np.argsort(-np.asarray(lengths), axis=-1, kind="stable")[..., :count]
