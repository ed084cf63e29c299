"""Margin and reconstruction loss, means over a batch, and which answers are right.

Axes: B batch, J classes, P parts of a picture, H W C image.
"""

import numpy as np

from parity.reference.arrays import Array, double, relu
from parity.reference.capsules import longest
from parity.spec import TwincapsError


def one_hot(targets, classes: int) -> Array:
    """Labels [B] as 0/1 [B, J]; what is 0/1 [B, J] already stays. Raises TwincapsError."""
    targets = np.asarray(targets)
    if targets.ndim == 1 and np.isin(targets, np.arange(classes)).all():
        return np.eye(classes)[targets.astype(int)]
    if targets.ndim == 2 and targets.shape[1] == classes and np.isin(targets, (0, 1)).all():
        return targets.astype(np.float64)
    raise TwincapsError(
        f"targets of shape {targets.shape} and values {np.unique(targets)[:20]}; expected labels "
        f"0 to {classes - 1} of shape [B], or zeros and ones of shape [B, {classes}]"
    )


def margin(
    lengths_BJ,
    targets,
    *,
    positive: float = 0.9,
    negative: float = 0.1,
    down_weight: float = 0.5,
    scale: float = 1.0,
) -> Array:
    """Eq. 4: sum over classes, mean over the batch, times `scale`; targets int [B] or 0/1 [B, J].

    T_k relu(0.9 - |v_k|)^2 + 0.5 (1 - T_k) relu(|v_k| - 0.1)^2
    """
    lengths_BJ = double(lengths_BJ)
    present = one_hot(targets, lengths_BJ.shape[1])
    short, long = relu(positive - lengths_BJ), relu(lengths_BJ - negative)
    terms = present * short * short + down_weight * (1 - present) * long * long
    return scale * terms.sum(1).mean()


def correct(lengths_BJ, targets) -> Array:
    """Whether the classes present are the longest of all, bool [B]; targets int [B] or 0/1 [B, J].

    With one class, whether its capsule is the longest. The first of equal lengths counts as longer.
    """
    lengths_BJ = np.asarray(lengths_BJ)
    present = one_hot(targets, lengths_BJ.shape[1])
    ranked = np.take_along_axis(present, longest(lengths_BJ), 1)
    in_order = ranked[:, 1:] <= ranked[:, :-1]  # not one that is present after one that is not
    return np.asarray(in_order.all(1))


def reconstruction(reconstructions, images) -> Array:
    """Section 4.1: the sum of squared errors of an image, mean over the batch; not yet weighted.

    Where an image is made of several, [B, P, H, W, C] twice, it is the sum over these too.
    """
    error = double(reconstructions) - double(images)
    return (error * error).reshape(len(error), -1).sum(1).mean()
