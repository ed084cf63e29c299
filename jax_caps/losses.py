"""Losses of classes and of reconstructions, for each sample and as the mean over a batch.

Equations and sections are those of Sabour, Frosst, Hinton, "Dynamic Routing Between Capsules"
(2017).

Axes: B batch, J classes.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jax_caps.arrays import concrete
from jax_caps.capsules import longest
from parity.spec import check_targets


def one_hot(targets: Array, classes: int, dtype: DTypeLike) -> Array:
    """Targets as zeros and ones [B, J] of `dtype`.

    Args:
        targets: Integer labels [B], or 0/1 [B, J].
        classes: How many there are, J.
        dtype: Of the result.

    Raises:
        SpecError: Where the shape is another, or the numbers are not whole; for labels of no
            class only where their values can be looked at (`arrays.concrete`).
    """
    check_targets(concrete(targets), classes)
    if targets.ndim == 1:
        return jax.nn.one_hot(targets, classes, dtype=dtype)
    return targets.astype(dtype)


def margin_each(
    lengths_BJ: Array,
    targets: Array,
    *,
    positive: float = 0.9,
    negative: float = 0.1,
    down_weight: float = 0.5,
    scale: float = 1.0,
) -> Array:
    """The margin loss (Eq. 4) of each sample, summed over classes: [B]; see `margin`."""
    check_targets(concrete(targets), lengths_BJ.shape[-1], len(lengths_BJ))
    present_BJ = one_hot(targets, lengths_BJ.shape[-1], lengths_BJ.dtype)
    # relu, not maximum or clamp: their gradients at a tie differ between frameworks and versions.
    short_BJ = jax.nn.relu(positive - lengths_BJ) ** 2
    long_BJ = jax.nn.relu(lengths_BJ - negative) ** 2
    # Absent classes weigh less, or at first they would shrink every capsule (section 3).
    return scale * (present_BJ * short_BJ + down_weight * (1.0 - present_BJ) * long_BJ).sum(-1)


def margin(
    lengths_BJ: Array,
    targets: Array,
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

    Raises:
        SpecError: As `one_hot`, and where there is not a target for each sample.
    """
    return margin_each(
        lengths_BJ,
        targets,
        positive=positive,
        negative=negative,
        down_weight=down_weight,
        scale=scale,
    ).mean()


def negative_log_likelihood_each(log_activations_BJ: Array, targets: Array) -> Array:
    """-log a_y of each sample, [B]; see `negative_log_likelihood`."""
    check_targets(concrete(targets), log_activations_BJ.shape[-1], len(log_activations_BJ))
    present_BJ = one_hot(targets, log_activations_BJ.shape[-1], log_activations_BJ.dtype)
    # No product: an absent class's logarithm may be -inf.
    return -jnp.where(present_BJ > 0, log_activations_BJ, 0.0).sum(-1)


def negative_log_likelihood(log_activations_BJ: Array, targets: Array) -> Array:
    """The negative log-likelihood of the class: -log a_y, mean over the batch.

    Of activations that sum to 1 over the classes, by their logarithms, as they may underflow.

    Args:
        log_activations_BJ: Logarithms of the class capsules' activations.
        targets: Integer labels [B], or 0/1 [B, J] where several classes may be present: summed.

    Returns:
        A scalar.
    """
    return negative_log_likelihood_each(log_activations_BJ, targets).mean()


def cross_entropy_each(activations_BJ: Array, targets: Array) -> Array:
    """-log softmax(a)_y of each sample, [B]; see `cross_entropy`."""
    return negative_log_likelihood_each(jax.nn.log_softmax(activations_BJ), targets)


def cross_entropy(activations_BJ: Array, targets: Array) -> Array:
    """The cross-entropy of the softmax over class activations: mean over the batch.

    Activations of (0, 1) are taken for logits, as the released code of variational Bayes routing
    does: the loss stays above ln(1 + (J - 1) / e), 0.905 for 5 classes and 1.461 for 10.

    Args:
        activations_BJ: Of the class capsules.
        targets: Integer labels [B], or 0/1 [B, J] where several classes may be present: summed.

    Returns:
        A scalar.
    """
    return cross_entropy_each(activations_BJ, targets).mean()


def spread_each(activations_BJ: Array, targets: Array, *, margin: float | Array = 0.9) -> Array:
    """The spread loss of each sample, [B]; see `spread`."""
    check_targets(concrete(targets), activations_BJ.shape[-1], len(activations_BJ))
    present_BJ = one_hot(targets, activations_BJ.shape[-1], activations_BJ.dtype)
    gap_BJJ = jax.nn.relu(margin - (activations_BJ[:, :, None] - activations_BJ[:, None])) ** 2
    return (present_BJ[:, :, None] * (1.0 - present_BJ[:, None]) * gap_BJJ).sum((1, 2))


def spread(activations_BJ: Array, targets: Array, *, margin: float | Array = 0.9) -> Array:
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
    return spread_each(activations_BJ, targets, margin=margin).mean()


def correct_each(lengths_BJ: Array, targets: Array) -> Array:
    """1 where the classes present have the longest capsules, else 0: [B].

    The first of equal lengths counts as longer.

    Args:
        lengths_BJ: Lengths of the class capsules.
        targets: Integer labels [B], or 0/1 [B, J]; a label asks for the one longest capsule.
    """
    if targets.ndim == 1:
        return (lengths_BJ.argmax(-1) == targets).astype(lengths_BJ.dtype)
    order_BJ = longest(lengths_BJ)
    present_BJ = one_hot(targets, lengths_BJ.shape[-1], lengths_BJ.dtype)
    ranked_BJ = jnp.take_along_axis(present_BJ, order_BJ, -1)
    # Ranked by length, the classes present come first: no 1 follows a 0.
    return (ranked_BJ[:, 1:] <= ranked_BJ[:, :-1]).all(-1).astype(lengths_BJ.dtype)


def reconstruction_each(reconstructions: Array, images: Array) -> Array:
    """The sum of squared errors of each image, [B, ...] -> [B] (section 4.1)."""
    return ((reconstructions - images) ** 2).reshape(len(images), -1).sum(-1)


def reconstruction(reconstructions: Array, images: Array) -> Array:
    """The sum of squared errors of an image, mean over the batch (section 4.1).

    Not yet weighted: `spec.loss.reconstruction` is 0.0005 in the paper.

    Args:
        reconstructions: [B, ...].
        images: The same shape.

    Returns:
        A scalar.
    """
    return reconstruction_each(reconstructions, images).mean()
