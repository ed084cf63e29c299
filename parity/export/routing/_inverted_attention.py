"""Inverted dot-product attention as ONNX operators (Tsai et al. 2020).

Axes: B batch, I input capsules, J output capsules, D size of an output pose.
"""

import math

from parity.export.graph import Graph
from parity.export.routing._dynamic import weighted_sum


def inverted_attention(
    g: Graph, votes_BJDI: str, poses_BJD: str | None, outputs: int, size: int
) -> str:
    """A step of inverted attention (Tsai et al. 2020): poses [B, J, D], without the norm.

    Args:
        g: The graph.
        votes_BJDI: The vote of each input capsule for each output capsule.
        poses_BJD: Of the output capsules after the step before; None for none.
        outputs: J.
        size: D.
    """
    if poses_BJD is None:
        return g("Div", g("ReduceSum", votes_BJDI, [3], keepdims=0), float(outputs))
    logits_BJ1I = g("MatMul", g("Unsqueeze", poses_BJD, [2]), votes_BJDI)
    coupling_BJ1I = g("Softmax", g("Div", logits_BJ1I, math.sqrt(size)), axis=1)
    return weighted_sum(g, votes_BJDI, g("Div", coupling_BJ1I, 1 + 1e-10))
