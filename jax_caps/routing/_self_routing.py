"""Self-routing (Hahn, Pyeon, Kim 2019, their own code).

Axes: B batch, I input capsules, J output capsules, D size of an output pose.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_caps.arrays import concrete
from jax_caps.capsules import Tap, no_tap
from parity.spec import check_activations


def log_activations(
    activations_BI: Array, logits_BIJ: Array, *, tap: Tap = no_tap
) -> tuple[Array, Array]:
    """The logarithm of each output capsule's activation, without votes: a_j of `self_routing`.

    A class that no child chooses underflows as sum of c a, and not as its logarithm.

    Args:
        activations_BI: Of the input capsules, 0 to 1.
        logits_BIJ: Of the routing coefficients, a softmax over the output capsules.
        tap: Sees, and may replace, routing.0.{log_coupling, coupling, log_activations}.

    Returns:
        Logarithms [B, J] and the routing coefficients [B, I, J].
    """
    logs_BJ, coupling_BIJ, _ = _shares(activations_BI, logits_BIJ, tap)
    return logs_BJ, coupling_BIJ


def self_routing(
    votes_BIJD: Array, activations_BI: Array, logits_BIJ: Array, *, tap: Tap = no_tap
) -> tuple[Array, Array, Array]:
    """Self-routing (Hahn, Pyeon, Kim 2019): a child's own logits say where it sends, in one pass.

    a_j = sum_i c_ij a_i / sum_i a_i, which sum to 1; p_j = sum_i c_ij a_i V_ij / sum_i c_ij a_i.
    Where every child's activation is 0, all count alike. Each sample is routed on its own.

    Args:
        votes_BIJD: The vote of each input capsule for each output capsule.
        activations_BI: Of the input capsules, 0 to 1.
        logits_BIJ: Of the routing coefficients, a softmax over the output capsules.
        tap: Sees, and may replace, routing.0.{log_coupling, coupling, log_activations, poses}.

    Returns:
        Poses [B, J, D], activations [B, J] and the routing coefficients [B, I, J].

    Raises:
        SpecError: For activations outside of 0 to 1.
    """
    logs_BJ, coupling_BIJ, shares_BIJ = _shares(activations_BI, logits_BIJ, tap)
    sum_BJD = jnp.einsum("bij,bijd->bjd", shares_BIJ, votes_BIJD)
    poses_BJD = tap("routing.0.poses", sum_BJD / shares_BIJ.sum(1)[..., None])
    return poses_BJD, jnp.exp(logs_BJ), coupling_BIJ


def _shares(activations_BI: Array, logits_BIJ: Array, tap: Tap) -> tuple[Array, Array, Array]:
    """The logarithms of a_j, c_ij, and c_ij a_i times a number for each j."""
    check_activations(concrete(activations_BI))
    none_B1 = (activations_BI == 0).all(1, keepdims=True)
    activations_BI = jnp.where(none_B1, 1.0, activations_BI)
    log_coupling = tap("routing.0.log_coupling", jax.nn.log_softmax(logits_BIJ))
    coupling = tap("routing.0.coupling", jnp.exp(log_coupling))
    # Shifted by the largest coefficient of a child that counts, so that no class's sum is 0.
    active_BI1 = activations_BI[..., None] > 0
    shift_BJ = jnp.where(active_BI1, lax.stop_gradient(log_coupling), -jnp.inf).max(1)
    gap = log_coupling - shift_BJ[:, None]
    # Above 0 only where a_i is 0; the bound keeps 0 * infinity out.
    shares = activations_BI[..., None] * jnp.exp(jnp.where(gap < 60, gap, 60.0))
    logs_BJ = shift_BJ + jnp.log(shares.sum(1)) - jnp.log(activations_BI.sum(1, keepdims=True))
    return tap("routing.0.log_activations", logs_BJ), coupling, shares
