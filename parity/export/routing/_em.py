"""EM routing as ONNX operators (Hinton, Sabour, Frosst 2018, procedure 1).

Axes: B batch, P parent places, J output capsules, I input capsules of a window, D size of a pose;
M places of a window, T types of children, I = M T; S = P M slots, C children's places that windows
hold, N the most windows that hold one. An axis of size 1 has a 1.

The votes for a parent lie together, so that its sums over children are products of matrices.
"""

import math
from typing import NamedTuple

import numpy as np

from parity import schedule
from parity.export.graph import Graph
from parity.export.layers import named, places, sigmoid
from parity.spec import EM, Window
from parity.weights import Arrays


class Held(NamedTuple):
    """The slots, a place of a parent's window each, that a child's place stands in.

    Attributes:
        slots: Their numbers, [C, N]; 0 in the place of those that are missing.
        real: False there, [C, N].
        child: The number of the child's place in each slot, [S].
        cell: The number of each slot in `slots`, [S].
        windows: How many hold the child's place in each slot, [S].
    """

    slots: np.ndarray
    real: np.ndarray
    child: np.ndarray
    cell: np.ndarray
    windows: np.ndarray


def held(window: Window) -> Held:
    """Where the windows hold each child's place; a place in no window is left out."""
    _, child, count = np.unique(places(window), return_inverse=True, return_counts=True)
    child = child.reshape(-1)
    order = np.argsort(child, kind="stable")
    rank = np.empty_like(child)
    rank[order] = np.arange(child.size) - (np.cumsum(count) - count)[child[order]]
    slots = np.zeros((count.size, count.max()), int)
    real = np.zeros(slots.shape, bool)
    slots[child, rank], real[child, rank] = np.arange(child.size), True
    return Held(slots, real, child, child * slots.shape[1] + rank, count[child])


def compete(
    g: Graph, logits_BPJI: str, window: Window | None, outputs: int, least: float = 0.0
) -> str:
    """Assignments: a softmax over all parents of a child, in all windows that hold it.

    Args:
        g: The graph.
        logits_BPJI: Of each child of each window; a child stands in several windows.
        window: The windows; None where one holds the whole grid, and types alone compete.
        outputs: J.
        least: What divides the powers of a child's logits where their sum is smaller.

    Returns:
        The shape of `logits_BPJI`.
    """
    if window is None:
        return _shares(g, logits_BPJI, [2], least)
    at, name = held(window), f"compete.{named(window)}"
    logits_BSTJ = _by_slot(g, logits_BPJI, window, outputs)
    logits_BCNTJ = g("Gather", logits_BSTJ, g.constant(at.slots, f"{name}.slots"), axis=1)
    missing_CN11 = np.where(at.real, 0.0, -math.inf)[:, :, None, None]
    logits_BCNTJ = g("Add", logits_BCNTJ, g.constant(missing_CN11, f"{name}.missing"))
    shares_BCNTJ = _shares(g, logits_BCNTJ, [2, 4], least)
    cells = g("Reshape", shares_BCNTJ, [0, at.slots.size, -1, outputs])
    shares_BSTJ = g("Gather", cells, g.constant(at.cell, f"{name}.cell"), axis=1)
    return _by_parent(g, shares_BSTJ, window, outputs)


def _shares(g: Graph, logits: str, axes: list[int], least: float) -> str:
    """exp(logits) over their sum along these axes, or over `least` where that is larger."""
    shift = g("ReduceMax", logits, axes=axes, keepdims=1)
    gap = g("Sub", logits, shift)
    powers = g("Exp", gap)
    total = g("ReduceSum", powers, axes, keepdims=1)
    if not least:
        return g("Div", powers, total)
    # In logarithms, as the power of a floor far above the logits would overflow.
    floor = g("Sub", math.log(least), shift)
    return g("Exp", g("Sub", gap, g("Max", g("Log", total), floor)))


def compete_released(g: Graph, logits_BPJI: str, window: Window, outputs: int) -> str:
    """The assignments of the released code, in windows: each type on its own, over places.

    It takes windows whose y + m and x + n are the same for those of one child, which is so at
    stride 1 alone. The shift by the largest logit of a type does not cancel, for the 1e-7.
    """
    (rows, columns), (height, width) = window.places, window.kernel
    alike = Window((rows + height - 1, columns + width - 1), window.kernel)
    at, name = held(alike), f"compete.{named(window)}.released"
    logits_BSTJ = _by_slot(g, logits_BPJI, window, outputs)
    shift_B1TJ = g("ReduceMax", logits_BSTJ, axes=[1], keepdims=1)
    powers_BSTJ = g("Exp", g("Sub", logits_BSTJ, shift_B1TJ))
    powers_BCNTJ = g("Gather", powers_BSTJ, g.constant(at.slots, f"{name}.slots"), axis=1)
    real_CN11 = g.constant(at.real[:, :, None, None].astype(float), f"{name}.real")
    total_BCTJ = g("ReduceSum", g("Mul", powers_BCNTJ, real_CN11), [2], keepdims=0)
    total_BSTJ = g("Gather", total_BCTJ, g.constant(at.child, f"{name}.child"), axis=1)
    shares_BSTJ = g("Div", powers_BSTJ, g("Add", total_BSTJ, 1e-7))
    return _by_parent(g, shares_BSTJ, window, outputs)


def _by_slot(g: Graph, x_BPJI: str, window: Window, outputs: int) -> str:
    """[B, P, J, I] -> [B, S, T, J]."""
    parents, seen = math.prod(window.places), math.prod(window.kernel)
    x_BPJMT = g("Reshape", x_BPJI, [0, parents, outputs, seen, -1])
    x_BPMTJ = g("Transpose", x_BPJMT, perm=[0, 1, 3, 4, 2])
    return g("Reshape", x_BPMTJ, [0, parents * seen, -1, outputs])


def _by_parent(g: Graph, x_BSTJ: str, window: Window, outputs: int) -> str:
    """[B, S, T, J] -> [B, P, J, I]."""
    parents, seen = math.prod(window.places), math.prod(window.kernel)
    x_BPMTJ = g("Reshape", x_BSTJ, [0, parents, seen, -1, outputs])
    x_BPJMT = g("Transpose", x_BPMTJ, perm=[0, 1, 4, 2, 3])
    return g("Reshape", x_BPJMT, [0, parents, outputs, -1])


def em(
    g: Graph,
    votes_BPJID: str,
    activations_BPI: str,
    routing: EM,
    arrays: Arrays,
    name: str,
    window: Window | None,
) -> tuple[str, str]:
    """EM routing (Hinton, Sabour, Frosst 2018, procedure 1).

    Args:
        g: The graph.
        votes_BPJID: The vote of each input capsule for each output capsule of each parent place.
        activations_BPI: Of the input capsules, 0 to 1.
        routing: Its options.
        arrays: The parameters by their canonical names.
        name: Of the layer; NAME.beta_a and NAME.beta_u are its own.
        window: The windows that parents see, children in (row, column, type) order; None where one
            parent place sees every child.

    Returns:
        Poses [B, P, J, D] and activations [B, P, J].
    """
    keep = 0.1 if routing.released else 0.0
    min_mass = 1e-5 if routing.released and window is None else 1e-7
    beta_a_J11, beta_u_J11 = (
        g.constant(arrays[f"{name}.{beta}"][:, None, None], f"{name}.{beta}")
        for beta in ("beta_a", "beta_u")
    )
    outputs = len(arrays[f"{name}.beta_a"])
    active_BP1I, coupling = g("Unsqueeze", activations_BPI, [2]), ""
    mean_BPJ1D = variance_BPJ1D = square_BPJID = logit_BPJ11 = ""
    for t in range(routing.num_iters):
        if t > 0:  # the E-step, in logarithms
            rate_BPJD1 = g("Transpose", g("Div", 0.5, variance_BPJ1D), perm=[0, 1, 2, 4, 3])
            apart_BPJI = g("Squeeze", g("MatMul", square_BPJID, rate_BPJD1), [4])
            logs = g("Log", g("Div", variance_BPJ1D, routing.min_variance))
            half = g("Div", g("ReduceSum", logs, [4], keepdims=1), 2.0)
            density_BPJ11 = g("Sub", _log_sigmoid(g, logit_BPJ11), half)
            # Of an image they count by their differences: float32 rounds what is near 0 least.
            largest = g("ReduceMax", density_BPJ11, axes=[1, 2], keepdims=1)
            density_BPJ1 = g("Squeeze", g("Sub", density_BPJ11, largest), [4])
            logits_BPJI = g("Sub", density_BPJ1, apart_BPJI)
            if routing.released and window is not None:
                coupling = compete_released(g, logits_BPJI, window, outputs)
            else:
                coupling = compete(g, logits_BPJI, window, outputs)
        # The M-step: mass, mean and variance of the votes of active children.
        if t == 0:  # to all output capsules alike
            sent = _first(g, active_BP1I, None if routing.released else window, outputs, name)
        else:
            sent = g("Mul", coupling, active_BP1I)
        sent_BPJ1I = g("Unsqueeze", sent, [3])
        mass_BPJ11 = g("Add", g("ReduceSum", sent_BPJ1I, [4], keepdims=1), min_mass)
        shares_BPJ1I = g("Div", sent_BPJ1I, mass_BPJ11)
        new_BPJ1D = g("MatMul", shares_BPJ1I, votes_BPJID)
        if keep:
            new_BPJ1D = g("Mul", new_BPJ1D, 1 - keep)
            new_BPJ1D = g("Add", new_BPJ1D, g("Mul", mean_BPJ1D, keep)) if t else new_BPJ1D
        mean_BPJ1D, apart_BPJID = new_BPJ1D, g("Sub", votes_BPJID, new_BPJ1D)
        square_BPJID = g("Mul", apart_BPJID, apart_BPJID)
        variance_BPJ1D = g("MatMul", shares_BPJ1I, square_BPJID)
        variance_BPJ1D = g("Add", variance_BPJ1D, routing.min_variance)
        costs = g("Add", g("Div", g("Log", variance_BPJ1D), 2.0), beta_u_J11)
        cost_BPJ11 = g("ReduceSum", g("Mul", costs, mass_BPJ11), [4], keepdims=1)
        heat = schedule.inverse_temperature(routing.inverse_temperature, t)
        logit_BPJ11 = g("Mul", g("Sub", beta_a_J11, cost_BPJ11), heat)
    activations_BPJ = sigmoid(g, g("Squeeze", logit_BPJ11, [3, 4]))
    return g("Squeeze", mean_BPJ1D, [3]), activations_BPJ


def _first(g: Graph, active_BP1I: str, window: Window | None, outputs: int, name: str) -> str:
    """What active children send in the first iteration, [B, P, 1, I]: as much to all parents."""
    if window is None:
        return g("Div", active_BP1I, float(outputs))
    parents, seen = math.prod(window.places), math.prod(window.kernel)
    active_BPMT = g("Reshape", active_BP1I, [0, parents, seen, -1])
    parents_PM1 = outputs * held(window).windows.reshape(parents, seen, 1).astype(float)
    sent_BPMT = g("Div", active_BPMT, g.constant(parents_PM1, f"{name}.parents"))
    return g("Reshape", sent_BPMT, [0, parents, 1, -1])


def _log_sigmoid(g: Graph, x: str) -> str:
    """log(sigmoid(x)), which does not underflow."""
    tail = g("Log", g("Add", g("Exp", g("Neg", g("Abs", x))), 1.0))
    return g("Sub", g("Min", x, 0.0), tail)
