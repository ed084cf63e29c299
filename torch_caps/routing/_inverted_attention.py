"""Inverted dot-product attention (Tsai, Srivastava, Goh, Salakhutdinov 2020, their own code).

Axes: B batch, I input capsules, J output capsules, D size of an output pose.
"""

import math

import torch
from torch import Tensor

from torch_caps.capsules import Tap, no_tap

DIVISOR = 1 + 1e-10  # of coefficients that sum to 1, in the authors' code


def inverted_attention(
    votes_BIJD: Tensor, poses_BJD: Tensor | None = None, *, tap: Tap = no_tap
) -> tuple[Tensor, Tensor]:
    """Inverted attention (Tsai et al. 2020, procedure 1): one step of one layer, without the norm.

    r_ij = softmax over j of V_ij . p_j / sqrt(D), and then sum_i r_ij V_ij, with the poses p_j of
    the step before; in a first step, which has none, r_ij = 1 / J. Nothing else is carried from
    step to step. Parents compete for a child; each sample is routed on its own.

    Args:
        votes_BIJD: The vote of each input capsule for each output capsule.
        poses_BJD: Of the output capsules, normalised, after the step before; None for none.
        tap: Sees, and may replace, routing.0.{logits, coupling, sum}; without poses there are no
            logits.

    Returns:
        Poses [B, J, D], which a layer normalises, and the routing coefficients [B, I, J].
    """
    outputs, size = votes_BIJD.shape[2:]
    if poses_BJD is None:
        coupling_BIJ = torch.full_like(votes_BIJD[..., 0], 1 / outputs)
    else:
        # The paper does not divide by the root of D.
        logits_BIJ = torch.einsum("bijd,bjd->bij", votes_BIJD, poses_BJD) / math.sqrt(size)
        coupling_BIJ = tap("routing.0.logits", logits_BIJ).softmax(-1) / DIVISOR
    coupling_BIJ = tap("routing.0.coupling", coupling_BIJ)
    sum_BJD = tap("routing.0.sum", torch.einsum("bij,bijd->bjd", coupling_BIJ, votes_BIJD))
    return sum_BJD, coupling_BIJ
