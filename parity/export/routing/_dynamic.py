"""Routing by agreement as ONNX operators (Sabour, Frosst, Hinton 2017).

Axes: B batch, I input capsules, J output capsules, D size of an output pose.
"""

from parity.export.graph import Graph
from parity.export.layers import own, squash
from parity.spec import Dynamic
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
            sum_BJD = weighted_sum(g, votes_BJDI, coupling_BJ1I)
        if routing.bias:
            sum_BJD = g("Add", sum_BJD, own(g, arrays, "digit.bias"))
        poses_BJD = squash(g, sum_BJD, f"routing.{t}.poses")
    return poses_BJD


def weighted_sum(g: Graph, votes_BJDI: str, coupling_BJ1I: str) -> str:
    """What every input sends to an output capsule, added up: [B, J, D]."""
    coupling_BJI1 = g("Reshape", coupling_BJ1I, [0, 0, -1, 1])
    return g("Squeeze", g("MatMul", votes_BJDI, coupling_BJI1), [3])


def _coupling(g: Graph, logits_BJ1I: str, leaky: bool, name: str) -> str:
    """The routing coefficients: a softmax over J (Eq. 3); a leak is one more logit, 0."""
    if not leaky:
        return g("Softmax", logits_BJ1I, axis=1, name=name)
    padded = g("Pad", logits_BJ1I, [0, 1, 0, 0, 0, 0, 0, 0])
    return g("Slice", g("Softmax", padded, axis=1), [1], [2**31], [1], name=name)
