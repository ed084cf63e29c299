"""Margin and reconstruction loss, for each sample and as the mean over a batch.

Axes: B batch, J classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from parity.spec import check_targets
from torch_caps.arrays import concrete


def one_hot(targets: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Integer labels [B], or 0/1 targets [B, J], as [B, J] of `dtype`.

    Raises SpecError for other shapes, for what are no whole numbers, and for labels of no class
    where their values can be looked at (`arrays.concrete`).
    """
    check_targets(concrete(targets), classes)
    if targets.ndim == 1:
        targets = F.one_hot(targets.long(), classes)
    return targets.to(dtype)


def margin_each(
    lengths_BJ: Tensor,
    targets: Tensor,
    *,
    positive: float = 0.9,
    negative: float = 0.1,
    down_weight: float = 0.5,
    scale: float = 1.0,
) -> Tensor:
    """The margin loss (Eq. 4) of each sample, summed over classes: [B]."""
    check_targets(concrete(targets), lengths_BJ.shape[-1], len(lengths_BJ))
    present_BJ = one_hot(targets, lengths_BJ.shape[-1], lengths_BJ.dtype)
    short_BJ = F.relu(positive - lengths_BJ) ** 2
    long_BJ = F.relu(lengths_BJ - negative) ** 2
    return scale * (present_BJ * short_BJ + down_weight * (1.0 - present_BJ) * long_BJ).sum(-1)


def margin(
    lengths_BJ: Tensor,
    targets: Tensor,
    *,
    positive: float = 0.9,
    negative: float = 0.1,
    down_weight: float = 0.5,
    scale: float = 1.0,
) -> Tensor:
    """The margin loss (Eq. 4): summed over classes, mean over the batch, a scalar.

    targets      integer labels [B], or 0/1 [B, J] where several classes may be present
    positive     length above which a present class costs nothing (m+)
    negative     length below which an absent class costs nothing (m-)
    down_weight  of the absent classes (lambda)
    scale        multiplies the whole: 1 in the paper, 0.5 / J in the authors' code
    """
    return margin_each(
        lengths_BJ,
        targets,
        positive=positive,
        negative=negative,
        down_weight=down_weight,
        scale=scale,
    ).mean()


def correct_each(lengths_BJ: Tensor, targets: Tensor) -> Tensor:
    """1 where the classes present are the longest of all, else 0: [B]; targets as in `margin`.

    With one class, where its capsule is the longest. The first of equal lengths counts as longer.
    """
    if targets.ndim == 1:
        return (lengths_BJ.argmax(-1) == targets).to(lengths_BJ.dtype)
    order_BJ = lengths_BJ.argsort(dim=-1, descending=True, stable=True)
    ranked_BJ = one_hot(targets, lengths_BJ.shape[-1], lengths_BJ.dtype).gather(1, order_BJ)
    # right where none that is present comes after one that is not
    return (ranked_BJ[:, 1:] <= ranked_BJ[:, :-1]).all(-1).to(lengths_BJ.dtype)


def reconstruction_each(reconstructions: Tensor, images: Tensor) -> Tensor:
    """The sum of squared errors of each image: [B, ...] twice -> [B]."""
    return ((reconstructions - images) ** 2).flatten(1).sum(-1)


def reconstruction(reconstructions: Tensor, images: Tensor) -> Tensor:
    """The sum of squared errors of an image, mean over the batch; the spec weighs it (0.0005)."""
    return reconstruction_each(reconstructions, images).mean()
