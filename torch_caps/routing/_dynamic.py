"""Routing by agreement (Sabour, Frosst, Hinton 2017, procedure 1).

Axes: B batch, I input capsules, J output capsules, D size of an output pose.
"""

import torch
from torch import Tensor

from torch_caps.capsules import Tap, no_tap, squash


def coupling(logits: Tensor, leaky: bool, axis: int = -1) -> Tensor:
    """The routing coefficients: a softmax over the output capsules (Eq. 3).

    Args:
        logits: The output capsules along `axis`; any other axes.
        leaky: Whether the softmax has one more logit, fixed at 0, left out of the result. The
            paper has none; the authors' code has.
        axis: That of the output capsules.

    Returns:
        The shape of `logits`.
    """
    if not leaky:
        return logits.softmax(axis)
    leak = torch.zeros_like(logits.narrow(axis, 0, 1))
    return torch.cat([leak, logits], axis).softmax(axis).narrow(axis, 1, logits.shape[axis])


def dynamic(
    votes_BIJD: Tensor,
    *,
    num_iters: int = 3,
    bias_JD: Tensor | None = None,
    leaky: bool = False,
    detach: bool = False,
    tap: Tap = no_tap,
) -> tuple[Tensor, Tensor]:
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
        ValueError: Where `num_iters` is below 1.
    """
    if num_iters < 1:
        raise ValueError(f"num_iters is {num_iters}; expected at least 1")
    # The comments give the lines of procedure 1. Line 2: every logit begins at 0.
    logits_BIJ = coupling_BIJ = votes_BIJD.new_zeros(votes_BIJD.shape[:-1])
    poses_BJD = votes_BIJD.new_zeros(votes_BIJD[:, 0].shape)
    for t in range(num_iters):
        if t > 0:  # line 7: agreement with the last poses; that of the final ones is not needed
            logits_BIJ = logits_BIJ + torch.einsum("bijd,bjd->bij", votes_BIJD, poses_BJD)
        logits_BIJ = tap(f"routing.{t}.logits", logits_BIJ)
        # Line 4: the routing coefficients.
        coupling_BIJ = coupling(logits_BIJ, leaky)
        if detach and t == num_iters - 1:
            coupling_BIJ = coupling_BIJ.detach()
        coupling_BIJ = tap(f"routing.{t}.coupling", coupling_BIJ)
        # Line 5: the weighted sums of the votes; the bias is the authors' code's, not the paper's.
        sum_BJD = torch.einsum("bij,bijd->bjd", coupling_BIJ, votes_BIJD)
        if bias_JD is not None:
            sum_BJD = sum_BJD + bias_JD
        # Line 6.
        poses_BJD = tap(f"routing.{t}.poses", squash(tap(f"routing.{t}.sum", sum_BJD)))
    return poses_BJD, coupling_BIJ
