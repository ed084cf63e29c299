"""Self-routing as ONNX operators (Hahn, Pyeon, Kim 2019, their own code).

Axes: B batch, I input capsules, J output capsules, D size of an output pose.
"""

import math

from parity.export.graph import Graph
from parity.export.layers import Capsules
from parity.export.routing._dynamic import weighted_sum


def self_routing(
    g: Graph, votes_BJDI: str | None, activations_BI: str, logits_BJ1I: str
) -> Capsules:
    """Self-routing (Hahn, Pyeon, Kim 2019), in one pass.

    Args:
        g: The graph.
        votes_BJDI: The vote of each input capsule for each output capsule; None for no poses.
        activations_BI: Of the input capsules, 0 to 1.
        logits_BJ1I: Of the routing coefficients, a softmax over the output capsules.

    Returns:
        Poses [B, J, D], or None without votes, and activations [B, J].
    """
    # Where every child's activation is 0, all count alike.
    none_B1 = g("Equal", g("ReduceMax", activations_BI, axes=[1], keepdims=1), 0.0)
    active_B11I = g("Unsqueeze", g("Where", none_B1, 1.0, activations_BI), [1, 2])
    # Not LogSoftmax, which may take the logarithm of a softmax that underflowed.
    gap_BJ1I = g("Sub", logits_BJ1I, g("ReduceMax", logits_BJ1I, axes=[1], keepdims=1))
    total_B11I = g("ReduceSum", g("Exp", gap_BJ1I), [1], keepdims=1)
    log_coupling = g("Sub", gap_BJ1I, g("Log", total_B11I))
    # Shifted by the largest coefficient of a child that counts, so that no class's sum is 0.
    counting = g("Where", g("Greater", active_B11I, 0.0), log_coupling, -math.inf)
    shift_BJ11 = g("ReduceMax", counting, axes=[3], keepdims=1)
    # Above 0 only where the activation is 0; the bound keeps 0 * infinity out.
    powers = g("Exp", g("Min", g("Sub", log_coupling, shift_BJ11), 60.0))
    shares_BJ1I = g("Mul", active_B11I, powers)
    sum_BJ11 = g("ReduceSum", shares_BJ1I, [3], keepdims=1)
    mass_B111 = g("ReduceSum", active_B11I, [3], keepdims=1)
    logs_BJ11 = g("Sub", g("Add", shift_BJ11, g("Log", sum_BJ11)), g("Log", mass_B111))
    activations_BJ = g("Exp", g("Squeeze", logs_BJ11, [2, 3]))
    if votes_BJDI is None:
        return Capsules(None, activations_BJ)
    sum_BJD = weighted_sum(g, votes_BJDI, shares_BJ1I)
    return Capsules(g("Div", sum_BJD, g("Squeeze", sum_BJ11, [3])), activations_BJ)
