"""Self-routing (Hahn, Pyeon, Kim 2019, their own code).

Axes: B batch, I input capsules, J output capsules, D size of an output pose.
"""

import torch
from torch import Tensor

from parity.spec import check_activations
from torch_caps.arrays import concrete
from torch_caps.capsules import Tap, no_tap


def log_activations(
    activations_BI: Tensor, logits_BIJ: Tensor, *, tap: Tap = no_tap
) -> tuple[Tensor, Tensor]:
    """The logarithm of each output capsule's activation, without votes: a_j of `self_routing`.

    A class that no child chooses underflows as sum of c a, and not as its logarithm.

    Args:
        activations_BI: Of the input capsules, 0 to 1.
        logits_BIJ: Of the routing coefficients, a softmax over the output capsules.
        tap: Sees, and may replace, routing.0.{log_coupling, coupling, log_activations}.

    Returns:
        Logarithms [B, J] and the routing coefficients [B, I, J].
    """
    logs_BJ, coupling_BIJ, _ = _shares(activations_BI, logits_BIJ, tap)
    return logs_BJ, coupling_BIJ


def self_routing(
    votes_BIJD: Tensor, activations_BI: Tensor, logits_BIJ: Tensor, *, tap: Tap = no_tap
) -> tuple[Tensor, Tensor, Tensor]:
    """Self-routing (Hahn, Pyeon, Kim 2019): a child's own logits say where it sends, in one pass.

    a_j = sum_i c_ij a_i / sum_i a_i, which sum to 1; p_j = sum_i c_ij a_i V_ij / sum_i c_ij a_i.
    Where every child's activation is 0, all count alike. Each sample is routed on its own.

    Args:
        votes_BIJD: The vote of each input capsule for each output capsule.
        activations_BI: Of the input capsules, 0 to 1.
        logits_BIJ: Of the routing coefficients, a softmax over the output capsules.
        tap: Sees, and may replace, routing.0.{log_coupling, coupling, log_activations, poses}.

    Returns:
        Poses [B, J, D], activations [B, J] and the routing coefficients [B, I, J].

    Raises:
        SpecError: For activations outside of 0 to 1.
    """
    logs_BJ, coupling_BIJ, shares_BIJ = _shares(activations_BI, logits_BIJ, tap)
    sum_BJD = torch.einsum("bij,bijd->bjd", shares_BIJ, votes_BIJD)
    poses_BJD = tap("routing.0.poses", sum_BJD / shares_BIJ.sum(1)[..., None])
    return poses_BJD, logs_BJ.exp(), coupling_BIJ


def _shares(activations_BI: Tensor, logits_BIJ: Tensor, tap: Tap) -> tuple[Tensor, Tensor, Tensor]:
    """The logarithms of a_j, c_ij, and c_ij a_i times a number for each j."""
    check_activations(concrete(activations_BI))
    none_B1 = (activations_BI == 0).all(1, keepdim=True)
    activations_BI = torch.where(none_B1, 1.0, activations_BI)
    log_coupling = tap("routing.0.log_coupling", logits_BIJ.log_softmax(-1))
    coupling = tap("routing.0.coupling", log_coupling.exp())
    # Shifted by the largest coefficient of a child that counts, so that no class's sum is 0.
    active_BI1 = activations_BI[..., None] > 0
    shift_BJ = torch.where(active_BI1, log_coupling.detach(), -torch.inf).amax(1)
    gap = log_coupling - shift_BJ[:, None]
    # Above 0 only where a_i is 0; the bound keeps 0 * infinity out.
    shares = activations_BI[..., None] * torch.where(gap < 60, gap, 60.0).exp()
    logs_BJ = shift_BJ + shares.sum(1).log() - activations_BI.sum(1, keepdim=True).log()
    return tap("routing.0.log_activations", logs_BJ), coupling, shares
