"""Variational Bayes routing (Ribeiro, Leontidis, Kollias 2020), by its authors' released code.

Parents are the components of a Gaussian mixture of the votes. Means, precisions and weights of the
components have distributions, whose updates are those of Bishop, "Pattern Recognition and Machine
Learning" (2006), section 10.2, with a child counted by its activation; equations are his.

Axes: B batch, P parent places, I input capsules of a window, J output capsules, D E size of a pose.
"""

import numpy as np

from parity.reference.arrays import Array, double
from parity.reference.capsules import Tap, no_tap
from parity.reference.routing._em import compete
from parity.spec import Window, check_activations, check_covariance, check_iterations

# The priors of the released code: a Dirichlet of the weights, a Gaussian of the means, around 0.
# The Wishart's are D + 1 degrees of freedom and the identity.
ALPHA0, KAPPA0 = 1.0, 1.0
LEAST = 1e-11  # of a child's density over its parents, which divides its assignments


def variational_bayes(
    votes_BIJD,
    activations_BI,
    *,
    beta_a_J,
    beta_u_J,
    window: Window | None = None,
    num_iters: int = 3,
    covariance: str = "diagonal",
    tap: Tap = no_tap,
) -> tuple[Array, Array, Array]:
    """Variational Bayes routing (Ribeiro, Leontidis, Kollias 2020, their released code).

    Nothing is detached that has a gradient, and each sample is routed on its own. The paper's
    formula for the activation is another than its code's, which is computed here.

    Args:
        votes_BIJD: The vote of each input capsule for each output capsule, [B, I, J, D]; with a
            window [B, P, I, J, D] of each child of each parent place.
        activations_BI: Of the input capsules, 0 to 1; with a window [B, P, I].
        beta_a_J: Added to the logits of an output capsule's activation.
        beta_u_J: Taken from them. A batch norm of the logits removes both.
        window: The windows that parents see, children in (row, column, type) order; None where
            each parent sees every child.
        num_iters: Iterations, at least 1.
        covariance: Of the votes for a parent, "diagonal" or "full"; in float32 one of votes of
            1e3 and more is singular where a parent has fewer children than D.
        tap: Sees, and may replace, routing.t.{logits, coupling, mean, inverse_scale} for t from
            0, and at the last t `logit`, of the activations; there are no logits for t = 0.

    Returns:
        Poses [B, J, D], the means of the parents; logits of their activations [B, J], for a norm
        and a sigmoid; and the last assignments [B, I, J]. With a window each has P after B.

    Raises:
        SpecError: For activations outside of 0 to 1, no iterations, or an unknown covariance.
    """
    check_iterations(num_iters)
    check_covariance(covariance)
    check_activations(np.real(double(activations_BI)))
    votes, activations_BPI = double(votes_BIJD), double(activations_BI)
    if window is None:
        votes, activations_BPI = votes[:, None], activations_BPI[:, None]
    beta_a_J, beta_u_J = double(beta_a_J), double(beta_u_J)
    outputs, size = votes.shape[3:]

    def show(name: str, x: Array) -> Array:
        """The tap, of tensors that have parent places where there are windows."""
        return tap(name, x[:, 0])[:, None] if window is None else tap(name, x)

    coupling = np.full(votes.shape[:-1], 1 / outputs)
    mean_BPJD = logit_BPJ = np.zeros(())
    for t in range(num_iters):
        coupling = show(f"routing.{t}.coupling", coupling)
        # Dirichlet, Gaussian and Wishart after the votes of active children (10.58 to 10.63).
        sent = coupling * activations_BPI[..., None]
        mass_BPJ = sent.sum(2)
        alpha_BPJ, kappa_BPJ, nu_BPJ = (x + mass_BPJ for x in (ALPHA0, KAPPA0, size + 1))
        mean = np.einsum("bpij,bpijd->bpjd", sent, votes) / kappa_BPJ[..., None]
        mean_BPJD = show(f"routing.{t}.mean", mean)
        apart = votes - mean_BPJD[:, :, None]
        spread = _inverse_scale(sent, apart, mean_BPJD, covariance)
        spread = show(f"routing.{t}.inverse_scale", spread)
        # Expected logarithms of the weight, over the types of a place, and of det(precision).
        weight_BPJ = digamma(alpha_BPJ) - digamma(alpha_BPJ.sum(-1, keepdims=True))
        precision_BPJ = _log_precision(nu_BPJ, spread, size)
        if t < num_iters - 1:  # assignments, in logarithms (10.46, 10.49)
            apart = _distances(apart, spread)
            apart = (size / kappa_BPJ)[:, :, None] + nu_BPJ[:, :, None] * apart
            constant_BPJ = weight_BPJ + (precision_BPJ - size * np.log(2 * np.pi)) / 2
            logits = show(f"routing.{t + 1}.logits", constant_BPJ[:, :, None] - apart / 2)
            coupling = compete(logits, window, LEAST)
        else:  # the entropy of the votes for a parent, by the parent's weight
            entropy_BPJ = (size * (1 + np.log(2 * np.pi)) - precision_BPJ) / 2
            logit_BPJ = beta_a_J - (np.exp(weight_BPJ) * entropy_BPJ + beta_u_J)
            logit_BPJ = show(f"routing.{t}.logit", logit_BPJ)
    if window is None:
        return mean_BPJD[:, 0], logit_BPJ[:, 0], coupling[:, 0]
    return mean_BPJD, logit_BPJ, coupling


def _inverse_scale(sent: Array, apart: Array, mean_BPJD: Array, covariance: str) -> Array:
    """The inverse scale of a parent's Wishart (10.62): its diagonal [..., D], or [..., D, D].

    10.62 has votes around their own mean, S / N, and a term for its distance from the prior's. It
    is the same around the posterior mean, S / (kappa0 + N), without a division by N, which is 0
    where no child is active.
    """
    if covariance == "diagonal":
        inner = np.einsum("bpij,bpijd->bpjd", sent, apart * apart)
        return 1.0 + inner + KAPPA0 * mean_BPJD * mean_BPJD
    inner = np.einsum("bpijd,bpije->bpjde", sent[..., None] * apart, apart)
    outer = mean_BPJD[..., None] * mean_BPJD[..., None, :]
    return np.eye(outer.shape[-1]) + inner + KAPPA0 * outer


def _log_precision(nu_BPJ: Array, spread: Array, size: int) -> Array:
    """The expected logarithm of the determinant of a parent's precision (10.65)."""
    if spread.ndim > nu_BPJ.ndim + 1:
        # By LU: NumPy's Cholesky takes conjugates, and a complex step must not meet one.
        determinant_BPJ = np.log(np.linalg.det(spread))
    else:
        determinant_BPJ = np.log(spread).sum(-1)
    # A diagonal scale keeps the Wishart's sum: neither a full Wishart nor D gammas, as released.
    halves = (nu_BPJ[..., None] - np.arange(size)) / 2
    return digamma(halves).sum(-1) + size * np.log(2) - determinant_BPJ


def _distances(apart: Array, spread: Array) -> Array:
    """apart^T spread^-1 apart of each vote for each parent, [B, P, I, J]."""
    if spread.ndim < apart.ndim:
        return np.einsum("bpijd,bpjd->bpij", apart * apart, 1 / spread)
    columns = apart.transpose(0, 1, 3, 4, 2)  # B P J D I
    return (columns * np.linalg.solve(spread, columns)).sum(3).swapaxes(2, 3)


# B(2n) / 2n, of digamma(x) = ln x - 1/(2 x) - sum over n of B(2n) / (2n x^2n), to x^-14.
SERIES = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)


def digamma(x) -> Array:
    """The logarithmic derivative of the gamma function, for x of at least 1."""
    x = double(x)
    total = np.zeros_like(x)
    for _ in range(10):  # digamma(x) = digamma(x + 1) - 1/x, to where the series is short
        total, x = total + 1 / x, x + 1
    square = 1 / (x * x)
    series = np.zeros_like(x)
    for number in reversed(SERIES):
        series = (series + number) * square
    return np.log(x) - 1 / (2 * x) - series - total
