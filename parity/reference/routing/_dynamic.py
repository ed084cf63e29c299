"""Routing by agreement (Sabour, Frosst, Hinton 2017, procedure 1).

Axes: B batch, I input capsules, J output capsules, D size of an output pose.
"""

import numpy as np

from parity.reference.arrays import Array, double
from parity.reference.capsules import Tap, no_tap, squash
from parity.spec import TwincapsError


def softmax(logits: Array, leaky: bool = False) -> Array:
    """The routing coefficients: a softmax over the last axis (Eq. 3).

    Args:
        logits: [..., J].
        leaky: Whether the softmax has one more logit, fixed at 0, left out of the result. The
            paper has none; the authors' code has.

    Returns:
        The shape of `logits`.
    """
    # A shift by the largest logit, the leak's among them, keeps exp from overflowing.
    shift = np.real(logits).max(-1, keepdims=True)
    shift = np.maximum(shift, 0) if leaky else shift
    powers = np.exp(logits - shift)
    leak = np.exp(-shift) if leaky else 0
    return powers / (powers.sum(-1, keepdims=True) + leak)


def dynamic(
    votes_BIJD,
    *,
    num_iters: int = 3,
    bias_JD=None,
    leaky: bool = False,
    detach: bool = False,
    tap: Tap = no_tap,
) -> tuple[Array, Array]:
    """Routing by agreement (Sabour, Frosst, Hinton 2017, procedure 1).

    Each sample is routed on its own.

    Args:
        votes_BIJD: The vote of each input capsule for each output capsule.
        num_iters: Iterations, r in the paper; at least 1.
        bias_JD: Added to the weighted sum before each squash (the authors' code, not the paper).
        leaky: Whether an input capsule may also send to nothing: its routing coefficients sum to
            less than 1.
        detach: Whether the last routing coefficients are constants to the gradient.
        tap: Sees, and may replace, routing.t.{logits, coupling, sum, poses} for t from 0.

    Returns:
        Poses [B, J, D] and the last iteration's routing coefficients [B, I, J].

    Raises:
        TwincapsError: Where `num_iters` is below 1.
    """
    if num_iters < 1:
        raise TwincapsError(f"num_iters is {num_iters}; expected at least 1")
    votes_BIJD = double(votes_BIJD)
    bias_JD = double(0.0 if bias_JD is None else bias_JD)
    logits = np.zeros(votes_BIJD.shape[:3])
    poses = coupling = np.zeros(0)
    for t in range(num_iters):
        if t > 0:  # line 7: agreement with the last poses; that of the final ones is not needed
            logits = logits + np.einsum("bijd,bjd->bij", votes_BIJD, poses)
        logits = tap(f"routing.{t}.logits", logits)
        coupling = softmax(logits, leaky)
        if detach and t == num_iters - 1:
            coupling = np.real(coupling)  # the imaginary part is what carries a complex step
        coupling = tap(f"routing.{t}.coupling", coupling)
        weighted = np.einsum("bij,bijd->bjd", coupling, votes_BIJD) + bias_JD
        weighted = tap(f"routing.{t}.sum", weighted)
        poses = tap(f"routing.{t}.poses", squash(weighted))
    return poses, coupling
