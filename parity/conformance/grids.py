"""The mistakes of public code in routing over a whole grid, each one switch away from the oracle.

The function is the oracle's of its name with switches that make it wrong, as in `mistakes.py`.

Axes: B batch, P places, I input capsules, J types of output capsules, D size of a pose.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity import reference

Array = np.ndarray
# What shares a softmax: the axes that come together, of B P I J.
_SHARED = {"grid": (1, 3), "types": (3,), "places": (1,), "children": (2,)}
# What is squashed as one vector: the axes of B P J D.
_SQUASHED = {"pose": (3,), "map": (1, 3), "number": (), "types": (2,)}


def dynamic_3d(
    votes_BPIJD: Array,
    *,
    num_iters: int,
    released: bool,
    softmax_over: str = "grid",
    squash_over: str = "pose",
    detach: bool = False,
    replace: bool = False,
) -> tuple[Array, ...]:
    """3-D routing with wrong coefficients, a wrong squash or wrong gradients."""
    assert not released
    votes = reference.double(votes_BPIJD)
    logits, axes = np.zeros(votes.shape[:4]), _SHARED[softmax_over]
    poses = coupling = np.zeros(0)
    for t in range(num_iters):
        last = t == num_iters - 1
        seen = np.real(votes) if detach and not last else votes
        powers = np.exp(logits - np.real(logits).max(axes, keepdims=True))
        coupling = powers / powers.sum(axes, keepdims=True)
        total = np.einsum("bpij,bpijd->bpjd", coupling, seen)
        if squash_over == "number":
            poses = reference.squash(total[..., None])[..., 0]
        else:
            poses = reference.squash(total, _SQUASHED[squash_over])
        step = np.einsum("bpijd,bpjd->bpij", seen, poses)
        if not last:
            logits = step if replace else logits + step
    return poses, coupling


MISTAKES: dict[str, dict[str, Mapping[str, Any]]] = {
    "dynamic_3d": {
        "softmax over the types at a place instead of the whole grid": {"softmax_over": "types"},
        "softmax over the places of a type instead of the whole grid": {"softmax_over": "places"},
        "softmax over input capsules": {"softmax_over": "children"},
        "squash of a type's whole map instead of each pose": {"squash_over": "map"},
        "squash of each number by itself": {"squash_over": "number"},
        "squash over the types instead of each pose": {"squash_over": "types"},
        "votes detached in all but the last iteration": {"detach": True},
        "logits replaced instead of accumulated": {"replace": True},
    },
}
