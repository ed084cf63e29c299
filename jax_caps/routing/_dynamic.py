"""Routing by agreement (Sabour, Frosst, Hinton 2017, procedure 1).

Axes: B batch, I input capsules, J output capsules, D size of an output pose.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jax_caps.capsules import Tap, no_tap, squash


def coupling(logits: Array, leaky: bool, axis: int = -1) -> Array:
    """Softmax over the output capsules (Eq. 3); leaky adds one more logit, fixed at 0."""
    if not leaky:
        return jax.nn.softmax(logits, axis)
    leak = jnp.zeros_like(jax.lax.slice_in_dim(logits, 0, 1, axis=axis))
    both = jax.nn.softmax(jnp.concatenate([leak, logits], axis), axis)
    return jax.lax.slice_in_dim(both, 1, None, axis=axis)


def dynamic(
    votes_BIJD: Array,
    *,
    num_iters: int = 3,
    bias_JD: Array | None = None,
    leaky: bool = False,
    detach: bool = False,
    tap: Tap = no_tap,
) -> tuple[Array, Array]:
    """Routing by agreement (Sabour, Frosst, Hinton 2017, procedure 1).

    Returns poses [B, J, D] and the last iteration's couplings [B, I, J].

    num_iters  r, at least 1
    bias_JD    added to the weighted sum before each squash (the authors' code)
    leaky      an input capsule may also send to nothing: its couplings sum to less than 1
    detach     the last couplings are constants to the gradient
    """
    if num_iters < 1:
        raise ValueError(f"num_iters is {num_iters}; expected at least 1")
    # Behind a barrier, or XLA spends seconds folding the first softmax, of constants, by itself.
    zeros_BIJ = jnp.zeros(votes_BIJD.shape[:-1], votes_BIJD.dtype)
    logits_BIJ = coupling_BIJ = jax.lax.optimization_barrier(zeros_BIJ)
    poses_BJD = jnp.zeros(votes_BIJD[:, 0].shape, votes_BIJD.dtype)
    for t in range(num_iters):
        if t > 0:
            logits_BIJ = logits_BIJ + jnp.einsum("bijd,bjd->bij", votes_BIJD, poses_BJD)
        logits_BIJ = tap(f"routing.{t}.logits", logits_BIJ)
        coupling_BIJ = coupling(logits_BIJ, leaky)
        if detach and t == num_iters - 1:
            coupling_BIJ = jax.lax.stop_gradient(coupling_BIJ)
        coupling_BIJ = tap(f"routing.{t}.coupling", coupling_BIJ)
        sum_BJD = jnp.einsum("bij,bijd->bjd", coupling_BIJ, votes_BIJD)
        if bias_JD is not None:
            sum_BJD = sum_BJD + bias_JD[None]
        poses_BJD = tap(f"routing.{t}.poses", squash(tap(f"routing.{t}.sum", sum_BJD)))
    return poses_BJD, coupling_BIJ
