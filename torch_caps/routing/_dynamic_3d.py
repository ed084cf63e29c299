"""3-D convolutional routing (Rajasegaran et al. 2019, "DeepCaps", section 3.2).

Axes: B batch, P places of the output capsules' grid, I input capsules, J types of output capsules,
D size of an output pose.
"""

import torch
from torch import Tensor

from parity.spec import check_iterations
from torch_caps.capsules import Tap, no_tap, squash


def dynamic_3d(
    votes_BIJD: Tensor,
    *,
    num_iters: int = 3,
    bias_JD: Tensor | None = None,
    released: bool = False,
    tap: Tap = no_tap,
) -> tuple[Tensor, Tensor]:
    """3-D convolutional routing (Rajasegaran et al. 2019): agreement over a whole grid.

    An input capsule shares its vote among all types at all places. Each sample is routed on its
    own. Without places it is routing by agreement.

    Args:
        votes_BIJD: The vote of each input capsule for each output capsule, [B, I, J, D], or for
            each at each place, [B, P, I, J, D].
        num_iters: Iterations, at least 1.
        bias_JD: Added to the weighted sum before each squash (the authors' code, not the paper).
        released: Whether as the authors' code: the numbers of a type at all places are squashed as
            one vector, where the paper squashes each pose.
        tap: Sees, and may replace, routing.t.{logits, coupling, sum, poses} for t from 0.

    Returns:
        Poses [B, J, D] and the last iteration's routing coefficients [B, I, J]; with places each
        has P after B.

    Raises:
        SpecError: Where `num_iters` is below 1.
    """
    check_iterations(num_iters)
    grid = votes_BIJD.ndim == 5
    votes = votes_BIJD if grid else votes_BIJD[:, None]

    def show(name: str, x: Tensor) -> Tensor:
        """The tap, of tensors that have places where the votes have."""
        return tap(name, x) if grid else tap(name, x[:, 0])[:, None]

    logits = coupling = votes.new_zeros(votes.shape[:-1])
    poses = votes.new_zeros(votes[:, :, 0].shape)
    for t in range(num_iters):
        if t > 0:  # agreement with the last poses; that of the final ones is not needed
            logits = logits + torch.einsum("bpijd,bpjd->bpij", votes, poses)
        logits = show(f"routing.{t}.logits", logits)
        # One softmax for each input capsule: over all places and types together.
        of_input = logits.transpose(1, 2)
        shares = of_input.flatten(2).softmax(-1).reshape(of_input.shape)
        coupling = show(f"routing.{t}.coupling", shares.transpose(1, 2))
        weighted = torch.einsum("bpij,bpijd->bpjd", coupling, votes)
        if bias_JD is not None:
            weighted = weighted + bias_JD
        weighted = show(f"routing.{t}.sum", weighted)
        poses = show(f"routing.{t}.poses", squash(weighted, (1, 3) if released else -1))
    return (poses, coupling) if grid else (poses[:, 0], coupling[:, 0])
