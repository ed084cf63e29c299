"""Variational Bayes routing as ONNX operators (Ribeiro, Leontidis, Kollias 2020).

Equations are those of Bishop (2006), section 10.2, as in the oracle.

Axes: B batch, P parent places, J output capsules, I input capsules of a window, D size of a pose.
An axis of size 1 has a 1.
"""

import math

import numpy as np

from parity.export.graph import Graph
from parity.export.routing._em import compete
from parity.reference.routing._variational_bayes import ALPHA0, KAPPA0, LEAST, SERIES
from parity.spec import VariationalBayes, Window
from parity.weights import Arrays

END = [2**31]  # of an axis


def variational_bayes(
    g: Graph,
    votes_BPJID: str,
    activations_BPI: str,
    routing: VariationalBayes,
    arrays: Arrays,
    name: str,
    window: Window | None,
) -> tuple[str, str]:
    """Variational Bayes routing (Ribeiro, Leontidis, Kollias 2020); arguments as those of `em`.

    Returns:
        Poses [B, P, J, D], and logits of activations [B, P, J].
    """
    beta_a_J, beta_u_J = (
        g.constant(arrays[f"{name}.{beta}"], f"{name}.{beta}") for beta in ("beta_a", "beta_u")
    )
    kernel = arrays[f"{name}.kernel"]
    outputs, size = kernel.shape[-3], kernel.shape[-1] ** 2
    coupling = g.constant(np.full((outputs, 1), 1 / outputs), f"{name}.coupling")
    active_BP1I = g("Unsqueeze", activations_BPI, [2])
    mean_BPJ1D = logit_BPJ = ""
    for t in range(routing.num_iters):
        # Dirichlet, Gaussian and Wishart after the votes of active children (10.58 to 10.63).
        sent_BPJ1I = g("Unsqueeze", g("Mul", coupling, active_BP1I), [3])
        mass_BPJ11 = g("ReduceSum", sent_BPJ1I, [4], keepdims=1)
        alpha, kappa, nu = (g("Add", mass_BPJ11, x) for x in (ALPHA0, KAPPA0, size + 1.0))
        mean_BPJ1D = g("Div", g("MatMul", sent_BPJ1I, votes_BPJID), kappa)
        apart_BPJID = g("Sub", votes_BPJID, mean_BPJ1D)
        again, full = t < routing.num_iters - 1, routing.covariance == "full"
        scale = _full if full else _diagonal
        determinant_BPJ11, distance_BPJI = scale(
            g, sent_BPJ1I, apart_BPJID, mean_BPJ1D, size, again
        )
        # Expected logarithms of the weight, over the types of a place, and of det(precision).
        whole_BP111 = g("ReduceSum", alpha, [2], keepdims=1)
        weight_BPJ11 = g("Sub", digamma(g, alpha), digamma(g, whole_BP111))
        halves_BPJ1D = g("Div", g("Sub", nu, g.constant(np.arange(float(size)))), 2.0)
        gammas = g("ReduceSum", digamma(g, halves_BPJ1D), [4], keepdims=1)
        precision_BPJ11 = g("Sub", g("Add", gammas, size * math.log(2)), determinant_BPJ11)
        if again:  # assignments, in logarithms (10.46, 10.49)
            half = g("Div", g("Sub", precision_BPJ11, size * math.log(2 * math.pi)), 2.0)
            constant_BPJ11 = g("Sub", g("Add", weight_BPJ11, half), g("Div", size / 2, kappa))
            far_BPJI = g("Mul", g("Squeeze", g("Div", nu, 2.0), [4]), distance_BPJI)
            logits_BPJI = g("Sub", g("Squeeze", constant_BPJ11, [4]), far_BPJI)
            coupling = compete(g, logits_BPJI, window, outputs, LEAST)
        else:  # the entropy of the votes for a parent, by the parent's weight
            entropy = g("Sub", size * (1 + math.log(2 * math.pi)), precision_BPJ11)
            cost = g("Mul", g("Exp", weight_BPJ11), g("Div", entropy, 2.0))
            cost_BPJ = g("Add", g("Squeeze", cost, [3, 4]), beta_u_J)
            logit_BPJ = g("Sub", beta_a_J, cost_BPJ)
    return g("Squeeze", mean_BPJ1D, [3]), logit_BPJ


def _diagonal(
    g: Graph, sent_BPJ1I: str, apart_BPJID: str, mean_BPJ1D: str, size: int, again: bool
) -> tuple[str, str]:
    """Of a parent's inverse scale (10.62), a diagonal: what `_full` returns."""
    square_BPJID = g("Mul", apart_BPJID, apart_BPJID)
    prior = g("Add", g("Mul", g("Mul", mean_BPJ1D, mean_BPJ1D), KAPPA0), 1.0)
    scale_BPJ1D = g("Add", g("MatMul", sent_BPJ1I, square_BPJID), prior)
    determinant_BPJ11 = g("ReduceSum", g("Log", scale_BPJ1D), [4], keepdims=1)
    if not again:
        return determinant_BPJ11, ""
    rate_BPJD1 = g("Transpose", g("Reciprocal", scale_BPJ1D), perm=[0, 1, 2, 4, 3])
    return determinant_BPJ11, g("Squeeze", g("MatMul", square_BPJID, rate_BPJD1), [4])


def _full(
    g: Graph, sent_BPJ1I: str, apart_BPJID: str, mean_BPJ1D: str, size: int, again: bool
) -> tuple[str, str]:
    """Of a parent's inverse scale S (10.62), a matrix [D, D], by Gauss's elimination.

    S is positive definite, so that no pivot is small: their product is its determinant. Beside S
    the votes' distances x from the mean are eliminated too: what stands in the row of a pivot is
    one of Cholesky's solution but for the pivot's root, and x^T S^-1 x the sum of their squares.

    Args:
        g: The graph.
        sent_BPJ1I: How much of each vote.
        apart_BPJID: The votes less their mean.
        mean_BPJ1D: The mean.
        size: D.
        again: Whether an iteration follows, which needs distances.

    Returns:
        The logarithm of the determinant [B, P, J, 1, 1], and x^T S^-1 x [B, P, J, I] of each vote.
    """
    turned = [0, 1, 2, 4, 3]
    apart_BPJDI = g("Transpose", apart_BPJID, perm=turned)
    inner = g("MatMul", g("Mul", apart_BPJDI, sent_BPJ1I), apart_BPJID)
    mean_BPJD1 = g("Transpose", mean_BPJ1D, perm=turned)
    outer = g("Mul", g("Mul", mean_BPJD1, mean_BPJ1D), KAPPA0)
    rest = g("Add", g("Add", inner, outer), g.constant(np.eye(size), f"identity.{size}"))
    rest = g("Concat", rest, apart_BPJDI, axis=4) if again else rest
    pivots, squares = [], []
    for left in range(size - 1, -1, -1):  # rows below this one
        row = _cut(g, rest, 3, last=1)
        pivots.append(pivot := _cut(g, row, 4, last=1))
        if again:
            solved_BPJ1I = _cut(g, row, 4, left + 1)
            squares.append(g("Div", g("Mul", solved_BPJ1I, solved_BPJ1I), pivot))
        if left:
            below = _cut(g, rest, 3, 1)
            factors = g("Div", _cut(g, below, 4, last=1), pivot)
            rest = g("Sub", _cut(g, below, 4, 1), g("Mul", factors, _cut(g, row, 4, 1)))
    logs = g("Log", g("Concat", *pivots, axis=4))
    determinant_BPJ11 = g("ReduceSum", logs, [4], keepdims=1)
    return determinant_BPJ11, g("Squeeze", g("Sum", *squares), [3]) if again else ""


def _cut(g: Graph, x: str, axis: int, first: int = 0, last: int | None = None) -> str:
    """x[first:last] along an axis."""
    return g("Slice", x, [first], END if last is None else [last], [axis])


def digamma(g: Graph, x: str) -> str:
    """The logarithmic derivative of the gamma function, no operator of ONNX, for x of at least 1.

    digamma(x) = digamma(x + 10) - 1/x - 1/(x + 1) - ... - 1/(x + 9), to where the series is short;
    in float64 right to 1e-15.
    """
    steps = g("Add", g("Unsqueeze", x, [-1]), g.constant(np.arange(10.0)))
    total = g("ReduceSum", g("Reciprocal", steps), [-1], keepdims=0)
    x = g("Add", x, 10.0)
    inverse = g("Reciprocal", x)
    square, series = g("Mul", inverse, inverse), ""
    for number in reversed(SERIES):
        series = g("Mul", g("Add", series, number) if series else number, square)
    tail = g("Add", g("Div", inverse, 2.0), g("Add", series, total))
    return g("Sub", g("Log", x), tail)
