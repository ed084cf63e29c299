"""Routing by agreement (Sabour, Frosst, Hinton 2017, procedure 1).

Axes: B batch, I input capsules, J output capsules, D size of an output pose.
"""

import torch
from torch import Tensor

from torch_caps.capsules import Tap, no_tap, squash


def coupling(logits: Tensor, leaky: bool, axis: int = -1) -> Tensor:
    """Softmax over the output capsules (Eq. 3); leaky adds one more logit, fixed at 0."""
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

    Returns poses [B, J, D] and the last iteration's couplings [B, I, J].

    num_iters  r, at least 1
    bias_JD    added to the weighted sum before each squash (the authors' code)
    leaky      an input capsule may also send to nothing: its couplings sum to less than 1
    detach     the last couplings are constants to the gradient
    """
    if num_iters < 1:
        raise ValueError(f"num_iters is {num_iters}; expected at least 1")
    logits_BIJ = coupling_BIJ = votes_BIJD.new_zeros(votes_BIJD.shape[:-1])
    poses_BJD = votes_BIJD.new_zeros(votes_BIJD[:, 0].shape)
    for t in range(num_iters):
        if t > 0:
            logits_BIJ = logits_BIJ + torch.einsum("bijd,bjd->bij", votes_BIJD, poses_BJD)
        logits_BIJ = tap(f"routing.{t}.logits", logits_BIJ)
        coupling_BIJ = coupling(logits_BIJ, leaky)
        if detach and t == num_iters - 1:
            coupling_BIJ = coupling_BIJ.detach()
        coupling_BIJ = tap(f"routing.{t}.coupling", coupling_BIJ)
        sum_BJD = torch.einsum("bij,bijd->bjd", coupling_BIJ, votes_BIJD)
        if bias_JD is not None:
            sum_BJD = sum_BJD + bias_JD
        poses_BJD = tap(f"routing.{t}.poses", squash(tap(f"routing.{t}.sum", sum_BJD)))
    return poses_BJD, coupling_BIJ
