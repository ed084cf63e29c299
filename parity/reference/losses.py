"""Losses of classes and of reconstructions, means over a batch, and correct answers.

Equations and sections are those of Sabour, Frosst, Hinton, "Dynamic Routing Between Capsules"
(2017).

Axes: B batch, J classes, P parts of a picture, H W C image.
"""

import numpy as np

from parity.reference.arrays import Array, double, relu
from parity.reference.capsules import longest
from parity.spec import TwincapsError


def one_hot(targets, classes: int) -> Array:
    """Targets as zeros and ones [B, J], in float64.

    Args:
        targets: Integer labels [B], or 0/1 [B, J].
        classes: How many there are, J.

    Raises:
        TwincapsError: Where they are neither.
    """
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
    """The margin loss (Eq. 4): summed over classes, mean over the batch.

    T_k relu(m+ - |v_k|)^2 + lambda (1 - T_k) relu(|v_k| - m-)^2

    Args:
        lengths_BJ: Lengths of the class capsules.
        targets: Integer labels [B], or 0/1 [B, J] where several classes may be present.
        positive: Length above which a present class costs nothing (m+).
        negative: Length below which an absent class costs nothing (m-).
        down_weight: Weight of the absent classes (lambda).
        scale: Multiplies the whole: 1 in the paper, 0.5 / J in the authors' code.

    Returns:
        A scalar.
    """
    lengths_BJ = double(lengths_BJ)
    present = one_hot(targets, lengths_BJ.shape[1])
    short, long = relu(positive - lengths_BJ), relu(lengths_BJ - negative)
    terms = present * short * short + down_weight * (1 - present) * long * long
    return scale * terms.sum(1).mean()


def negative_log_likelihood(log_activations_BJ, targets) -> Array:
    """The negative log-likelihood of the class: -log a_y, mean over the batch.

    Of activations that sum to 1 over the classes, by their logarithms, as they may underflow.

    Args:
        log_activations_BJ: Logarithms of the class capsules' activations.
        targets: Integer labels [B], or 0/1 [B, J] where several classes may be present: summed.

    Returns:
        A scalar.
    """
    log_activations_BJ = double(log_activations_BJ)
    present = one_hot(targets, log_activations_BJ.shape[1])
    return -np.where(present > 0, log_activations_BJ, 0).sum(1).mean()


def cross_entropy(activations_BJ, targets) -> Array:
    """The cross-entropy of the softmax over class activations: mean over the batch.

    Activations of (0, 1) are taken for logits, as the released code of variational Bayes routing
    does: the loss stays above ln(1 + (J - 1) / e), 0.905 for 5 classes and 1.461 for 10.

    Args:
        activations_BJ: Of the class capsules.
        targets: Integer labels [B], or 0/1 [B, J] where several classes may be present: summed.

    Returns:
        A scalar.
    """
    activations_BJ = double(activations_BJ)
    shifted = activations_BJ - np.real(activations_BJ).max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return negative_log_likelihood(logs, targets)


def spread(activations_BJ, targets, *, margin: float = 0.9) -> Array:
    """The spread loss (Hinton, Sabour, Frosst 2018, Eq. 3): mean over the batch.

    The sum over classes i but the target t of relu(margin - (a_t - a_i))^2. The target's own term,
    margin^2, is left out.

    Args:
        activations_BJ: Of the class capsules.
        targets: Integer labels [B], or 0/1 [B, J]: of every pair of a present and an absent class.
        margin: By how much the target's activation has to be larger.

    Returns:
        A scalar.
    """
    activations_BJ = double(activations_BJ)
    present = one_hot(targets, activations_BJ.shape[1])
    gap = relu(margin - (activations_BJ[:, :, None] - activations_BJ[:, None]))
    return (present[:, :, None] * (1 - present[:, None]) * gap * gap).sum((1, 2)).mean()


def correct(lengths_BJ, targets) -> Array:
    """Whether the classes present have the longest capsules: bool [B].

    The first of equal lengths counts as longer.

    Args:
        lengths_BJ: Lengths of the class capsules.
        targets: Integer labels [B], or 0/1 [B, J]; a label asks for the one longest capsule.
    """
    lengths_BJ = np.asarray(lengths_BJ)
    present = one_hot(targets, lengths_BJ.shape[1])
    ranked = np.take_along_axis(present, longest(lengths_BJ), 1)
    # Ranked by length, the classes present come first: no 1 follows a 0.
    in_order = ranked[:, 1:] <= ranked[:, :-1]
    return np.asarray(in_order.all(1))


def reconstruction(reconstructions, images) -> Array:
    """The sum of squared errors of an image, mean over the batch (section 4.1).

    Not yet weighted: `spec.loss.reconstruction` is 0.0005 in the paper.

    Args:
        reconstructions: [B, H, W, C], or [B, P, H, W, C] of the parts of each image, over which
            the errors are summed too.
        images: The same shape.

    Returns:
        A scalar.
    """
    error = double(reconstructions) - double(images)
    return (error * error).reshape(len(error), -1).sum(1).mean()
