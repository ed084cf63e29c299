"""Self-attention routing (Mazzia, Salvetti, Chiaberge 2021, their own code).

Axes: B batch, I input capsules, J output capsules, D size of an output pose.
"""

import numpy as np

from parity.reference.arrays import Array, double
from parity.reference.capsules import Tap, exponential_squash, no_tap
from parity.reference.routing._dynamic import softmax


def self_attention(
    votes_BIJD, *, prior_IJ=None, scale: float | None = None, tap: Tap = no_tap
) -> tuple[Array, Array]:
    """Self-attention routing (Mazzia, Salvetti, Chiaberge 2021): one pass, no iterations.

    Each sample is routed on its own.

    Args:
        votes_BIJD: The vote of each input capsule for each output capsule.
        prior_IJ: Added to the routing coefficients after the softmax, so that they no longer sum
            to 1 and may be negative; None for 0.
        scale: What agreements are divided by; None for the root of D, as in the authors' code.
        tap: Sees, and may replace, routing.0.{logits, softmax, coupling, sum, poses}.

    Returns:
        Poses [B, J, D] and the routing coefficients [B, I, J].
    """
    votes_BIJD = double(votes_BIJD)
    scale = np.sqrt(votes_BIJD.shape[-1]) if scale is None else scale
    # The agreement with all votes for the same capsule, a vote's own among them.
    logits = np.einsum("bijd,bjd->bij", votes_BIJD, votes_BIJD.sum(1)) / scale
    coupling = tap("routing.0.softmax", softmax(tap("routing.0.logits", logits)))
    coupling = tap("routing.0.coupling", coupling + double(0.0 if prior_IJ is None else prior_IJ))
    weighted = tap("routing.0.sum", np.einsum("bij,bijd->bjd", coupling, votes_BIJD))
    return tap("routing.0.poses", exponential_squash(weighted)), coupling
