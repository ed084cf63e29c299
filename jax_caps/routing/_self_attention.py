"""Self-attention routing (Mazzia, Salvetti, Chiaberge 2021, their own code).

Axes: B batch, I input capsules, J output capsules, D size of an output pose.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array

from jax_caps.capsules import Tap, exponential_squash, no_tap


def self_attention(
    votes_BIJD: Array,
    *,
    prior_IJ: Array | None = None,
    scale: float | None = None,
    tap: Tap = no_tap,
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
    scale = math.sqrt(votes_BIJD.shape[-1]) if scale is None else scale
    # The agreement with all votes for the same capsule, a vote's own among them.
    logits_BIJ = jnp.einsum("bijd,bjd->bij", votes_BIJD, votes_BIJD.sum(1)) / scale
    coupling_BIJ = tap("routing.0.softmax", jax.nn.softmax(tap("routing.0.logits", logits_BIJ)))
    if prior_IJ is not None:
        coupling_BIJ = coupling_BIJ + prior_IJ[None]
    coupling_BIJ = tap("routing.0.coupling", coupling_BIJ)
    sum_BJD = tap("routing.0.sum", jnp.einsum("bij,bijd->bjd", coupling_BIJ, votes_BIJD))
    return tap("routing.0.poses", exponential_squash(sum_BJD)), coupling_BIJ
