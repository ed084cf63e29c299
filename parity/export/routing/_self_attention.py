"""Self-attention routing as ONNX operators (Mazzia, Salvetti, Chiaberge 2021).

Axes: B batch, I input capsules, J output capsules, D size of an output pose.
"""

import math

from parity.export.graph import Graph
from parity.export.layers import exponential_squash
from parity.export.routing._dynamic import weighted_sum
from parity.spec import SelfAttention
from parity.weights import Arrays


def self_attention(
    g: Graph, votes_BJDI: str, routing: SelfAttention, arrays: Arrays, outputs: int
) -> str:
    """Self-attention routing (Mazzia, Salvetti, Chiaberge 2021); see `dynamic`."""
    size = arrays["digit.kernel"].shape[3]
    scale = math.sqrt(size) if routing.scale is None else routing.scale
    # The agreement with all votes for the same capsule, a vote's own among them.
    total_BJ1D = g("Unsqueeze", g("ReduceSum", votes_BJDI, [3], keepdims=0), [2])
    logits_BJ1I = g("Div", g("MatMul", total_BJ1D, votes_BJDI), scale, name="routing.0.logits")
    softmax_BJ1I = g("Softmax", logits_BJ1I, axis=1, name="routing.0.softmax")
    prior_J1I = g.constant(arrays["digit.prior"].T[:, None], "digit.prior")
    coupling_BJ1I = g("Add", softmax_BJ1I, prior_J1I, name="routing.0.coupling")
    return exponential_squash(g, weighted_sum(g, votes_BJDI, coupling_BJ1I), "routing.0.poses")
