"""Routings as ONNX operators: a function for each that has a graph, by its name in `ROUTINGS`.

Axes: B batch, I input capsules, J output capsules, D size of an output pose.
"""

import math
from collections.abc import Callable

from parity.export.graph import Graph
from parity.export.layers import exponential_squash, own, squash
from parity.spec import Dynamic, SelfAttention
from parity.weights import Arrays


def dynamic(g: Graph, votes_BJDI: str, routing: Dynamic, arrays: Arrays, outputs: int) -> str:
    """Routing by agreement (Sabour, Frosst, Hinton 2017, procedure 1).

    Args:
        g: The graph.
        votes_BJDI: The vote of each input capsule for each output capsule.
        routing: Its options; what it owns is in `arrays` as digit.NAME.
        arrays: The parameters by their canonical names.
        outputs: J.

    Returns:
        Poses [B, J, D].
    """
    total_BJD = poses_BJD = ""
    for t in range(routing.num_iters):
        if t == 0:  # every routing coefficient is the same
            sum_BJD = g("ReduceSum", votes_BJDI, [3], keepdims=0)
            sum_BJD = g("Div", sum_BJD, float(outputs + routing.leaky))
        else:
            # A logit is the vote times the sum of all earlier poses (line 7, added up).
            total_BJD = poses_BJD if t == 1 else g("Add", total_BJD, poses_BJD)
            total_BJ1D = g("Unsqueeze", total_BJD, [2])
            logits_BJ1I = g("MatMul", total_BJ1D, votes_BJDI, name=f"routing.{t}.logits")
            coupling_BJ1I = _coupling(g, logits_BJ1I, routing.leaky, f"routing.{t}.coupling")
            sum_BJD = _sum(g, votes_BJDI, coupling_BJ1I)
        if routing.bias:
            sum_BJD = g("Add", sum_BJD, own(g, arrays, "digit.bias"))
        poses_BJD = squash(g, sum_BJD, f"routing.{t}.poses")
    return poses_BJD


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
    return exponential_squash(g, _sum(g, votes_BJDI, coupling_BJ1I), "routing.0.poses")


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
    return _sum(g, votes_BJDI, g("Div", coupling_BJ1I, 1 + 1e-10))


def _sum(g: Graph, votes_BJDI: str, coupling_BJ1I: str) -> str:
    """What every input sends to an output capsule, added up: [B, J, D]."""
    coupling_BJI1 = g("Reshape", coupling_BJ1I, [0, 0, -1, 1])
    return g("Squeeze", g("MatMul", votes_BJDI, coupling_BJI1), [3])


def _coupling(g: Graph, logits_BJ1I: str, leaky: bool, name: str) -> str:
    """The routing coefficients: a softmax over J (Eq. 3); a leak is one more logit, 0."""
    if not leaky:
        return g("Softmax", logits_BJ1I, axis=1, name=name)
    padded = g("Pad", logits_BJ1I, [0, 1, 0, 0, 0, 0, 0, 0])
    return g("Slice", g("Softmax", padded, axis=1), [1], [2**31], [1], name=name)


# Of inverted attention a step, which the network repeats.
GRAPHS: dict[str, Callable[..., str]] = {
    "dynamic": dynamic,
    "self_attention": self_attention,
    "inverted_attention": inverted_attention,
}
