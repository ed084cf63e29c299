"""Dynamic routing that never stores the votes.

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose,
M the D of all J in a row, N blocks of C input capsules each, T iterations.

Every logit is a vote times the sum V of the earlier outputs, b = <vote, V>. So all that an
iteration needs of the earlier ones is V, and it is one pass over blocks of input capsules, which
makes the votes of a block, uses them and drops them:

    vote_i = W_i^T u_i        c_i = softmax over J of <vote_i, V>        s = bias + sum_i c_i vote_i

In the first iteration every routing coefficient c is the same, so its s is one matrix product. What
is kept for the gradient is each iteration's s. With g_t = dL/ds_t (that of the output through the
squash), iteration t contributes

    dvote_i += c_i g_t + e_i V_t        dV_t = sum_i e_i vote_i        dbias += sum over B of g_t

where e_i = c_i (a_i - sum over J of c_i a_i), a_i = <vote_i, g_t>, is what reaches the logits
(a leak has no vote, so the same holds with one). As V_t is the sum of the outputs before t, dV_t
is added to the gradient of each of them: iterations are walked from the last to the first, where
c is constant. A pass for each finds dV_t; the last of them, when every g but the first is known,
makes dvote_i for all at once, and with it dW_i = u_i dvote_i^T and du_i = W_i dvote_i.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_caps.capsules import squash
from jax_caps.routing._dynamic import coupling
from parity.spec import TwincapsError


class _Options(NamedTuple):
    num_iters: int
    leaky: bool
    detach: bool
    block: int


def dynamic(
    inputs_BIK: Array,
    kernel_IJKD: Array,
    *,
    num_iters: int = 3,
    bias_JD: Array | None = None,
    leaky: bool = False,
    detach: bool = False,
    block: int | None = None,
) -> Array:
    """`routing.dynamic` of the votes of these inputs, which are never stored.

    It cannot be differentiated twice, nor in forward mode (`lean=False` can).

    Args:
        inputs_BIK: The poses of the input capsules.
        kernel_IJKD: A matrix for each pair of an input and an output capsule.
        num_iters: Iterations; this and the next three are as in `routing.dynamic`.
        bias_JD: Added to the weighted sum before each squash.
        leaky: Whether an input capsule may also send to nothing.
        detach: Whether the last routing coefficients are constants to the gradient.
        block: Input capsules whose votes are in memory at a time; None chooses from the sizes.

    Returns:
        Poses [B, J, D], without the routing coefficients.

    Raises:
        ValueError: Where `num_iters` is below 1.
    """
    if num_iters < 1:
        raise ValueError(f"num_iters is {num_iters}; expected at least 1")
    block = block or _fitting(inputs_BIK, kernel_IJKD)
    options = _Options(num_iters, leaky, detach, min(block, kernel_IJKD.shape[0]))
    if bias_JD is None:
        bias_JD = jnp.zeros(kernel_IJKD.shape[1::2], kernel_IJKD.dtype)
    try:
        return _dynamic(options, inputs_BIK, kernel_IJKD, bias_JD)
    except TypeError as error:  # a custom_vjp cannot say in its own words what it refuses
        if "forward-mode" in str(error):
            raise _refusal("forward-mode derivatives") from error
        raise


def _fitting(inputs_BIK: Array, kernel_IJKD: Array) -> int:
    """The number of input capsules whose votes fit a core's share of the last cache."""
    _, outputs, _, size = kernel_IJKD.shape
    fits = 5 * 2**19  # bytes of votes, 2.5 MiB
    return max(1, fits // max(1, len(inputs_BIK) * outputs * size * inputs_BIK.dtype.itemsize))


def _votes(inputs_CBK: Array, kernel_CKM: Array, like_BJD: Array) -> Array:
    votes_CBM = lax.dot_general(inputs_CBK, kernel_CKM, (((2,), (1,)), ((0,), (0,))))
    return votes_CBM.reshape(-1, *like_BJD.shape).transpose(1, 2, 0, 3)


def _agreement(votes_BJCD: Array, poses_BJD: Array) -> Array:
    return jnp.einsum("bjcd,bjd->bjc", votes_BJCD, poses_BJD)


def _sum(coupling_BJC: Array, votes_BJCD: Array) -> Array:
    return jnp.einsum("bjc,bjcd->bjd", coupling_BJC, votes_BJCD)


def _to_logits(coupling_BJC: Array, slope_BJC: Array) -> Array:
    """The gradient of the logits from that of their softmax."""
    mean_BC = (coupling_BJC * slope_BJC).sum(1, keepdims=True)
    return coupling_BJC * (slope_BJC - mean_BC)


def _forward_block(inputs_CBK: Array, kernel_CKM: Array, V_BJD: Array, leaky: bool) -> Array:
    """The share of a block of input capsules in an iteration's s."""
    votes_BJCD = _votes(inputs_CBK, kernel_CKM, V_BJD)
    return _sum(coupling(_agreement(votes_BJCD, V_BJD), leaky, 1), votes_BJCD)


def _slope_block(
    inputs_CBK: Array, kernel_CKM: Array, V_BJD: Array, g_BJD: Array, leaky: bool
) -> Array:
    """The share of a block of input capsules in an iteration's dV."""
    votes_BJCD = _votes(inputs_CBK, kernel_CKM, V_BJD)
    coupling_BJC = coupling(_agreement(votes_BJCD, V_BJD), leaky, 1)
    return _sum(_to_logits(coupling_BJC, _agreement(votes_BJCD, g_BJD)), votes_BJCD)


def _gradient_block(
    inputs_CBK: Array,
    kernel_CKM: Array,
    V_TBJD: list[Array],
    g_TBJD: list[Array],
    leaky: bool,
    detach: bool,
) -> tuple[Array, Array, Array]:
    """A block's share in the dV of the first of these iterations; du and dW of all."""
    votes_BJCD = _votes(inputs_CBK, kernel_CKM, V_TBJD[0])
    couplings = [coupling(_agreement(votes_BJCD, V_BJD), leaky, 1) for V_BJD in V_TBJD]
    # dvote_i += c_i g_t + e_i V_t, over the iterations: weights c and e, vectors g and V.
    weights, vectors, slope_BJD = couplings, g_TBJD, jnp.zeros_like(V_TBJD[0])
    if not detach:
        slopes = (_agreement(votes_BJCD, g_BJD) for g_BJD in g_TBJD)
        logits = [_to_logits(*pair) for pair in zip(couplings, slopes, strict=True)]
        weights, vectors = couplings + logits, g_TBJD + V_TBJD
        slope_BJD = _sum(logits[0], votes_BJCD)
    # All that reaches the votes is of rank 2T: one contraction instead of 2T passes over them.
    dvotes_BJCD = jnp.einsum("tbjc,tbjd->bjcd", jnp.stack(weights), jnp.stack(vectors))
    # du_i = W_i dvote_i and dW_i = u_i dvote_i^T.
    dvotes_CBM = dvotes_BJCD.transpose(2, 0, 1, 3).reshape(*inputs_CBK.shape[:2], -1)
    du_CBK = lax.dot_general(dvotes_CBM, kernel_CKM, (((2,), (2,)), ((0,), (0,))))
    dW_CKM = lax.dot_general(inputs_CBK, dvotes_CBM, (((1,), (1,)), ((0,), (0,))))
    return slope_BJD, du_CBK, dW_CKM


def _blocks(inputs_BIK: Array, kernel_IJKD: Array, block: int) -> tuple[Array, Array]:
    """inputs_NCBK and kernel_NCKM; zeros fill the last block and add nothing."""
    inputs_IBK = inputs_BIK.transpose(1, 0, 2)
    kernel_IKM = kernel_IJKD.transpose(0, 2, 1, 3).reshape(*kernel_IJKD.shape[::2], -1)
    pad = ((0, -len(inputs_IBK) % block), (0, 0), (0, 0))
    inputs_NCBK, kernel_NCKM = (
        jnp.pad(tensor, pad).reshape(-1, block, *tensor.shape[1:])
        for tensor in (inputs_IBK, kernel_IKM)
    )
    return inputs_NCBK, kernel_NCKM


def _over(
    block: Callable[..., Array], start: Array, tensors: tuple[Array, Array], *rest: Any
) -> Array:
    """`start` plus the results of a function of a block, summed over all blocks."""
    return lax.scan(lambda total, part: (total + block(*part, *rest), None), start, tensors)[0]


def _through_squash(sum_BJD: Array, dposes_BJD: Array) -> Array:
    return jax.vjp(squash, sum_BJD)[1](dposes_BJD)[0]


def _flat(inputs_BIK: Array, kernel_IJKD: Array) -> tuple[Array, Array]:
    """Matrices [B, I * K] and [I * K, J * D], whose product is the sum of all votes."""
    outputs, size = kernel_IJKD.shape[1::2]
    kernel = kernel_IJKD.transpose(0, 2, 1, 3).reshape(-1, outputs * size)
    return inputs_BIK.reshape(len(inputs_BIK), -1), kernel


def _forward(
    options: _Options, inputs_BIK: Array, kernel_IJKD: Array, bias_JD: Array
) -> list[Array]:
    """The s of every iteration, each [B, J, D]."""
    # The first s: a sum over I and K, divided by the outputs, and by the leak as one more.
    outputs, size = kernel_IJKD.shape[1::2]
    inputs, kernel = _flat(inputs_BIK, kernel_IJKD)
    first_BJD = (inputs @ kernel).reshape(-1, outputs, size) / (outputs + options.leaky)
    sums, V_BJD = [first_BJD + bias_JD[None]], jnp.zeros_like(first_BJD)
    # Each further s: V takes in the last output, and a pass over the blocks adds up their shares.
    start = jnp.broadcast_to(bias_JD[None], first_BJD.shape)
    tensors = _blocks(inputs_BIK, kernel_IJKD, options.block)
    for _ in range(1, options.num_iters):
        V_BJD = V_BJD + squash(sums[-1])
        sums.append(_over(partial(_forward_block, leaky=options.leaky), start, tensors, V_BJD))
    return sums


def _backward(
    options: _Options, residuals: tuple[Array, Array, list[Array]], dposes_BJD: Array
) -> tuple[Array, Array, Array]:
    """du_BIK, dW_IJKD and dbias_JD."""
    inputs_BIK, kernel_IJKD, sums = residuals
    (capsules, outputs, length, size), batch = kernel_IJKD.shape, len(inputs_BIK)
    tensors = _blocks(inputs_BIK, kernel_IJKD, options.block)
    V_TBJD = list(itertools.accumulate(map(squash, sums[:-1])))  # from t = 1
    g_TBJD = [_through_squash(sums[-1], dposes_BJD)]  # of the iterations walked so far
    du_BIK, dW_IJKD = jnp.zeros_like(inputs_BIK), jnp.zeros_like(kernel_IJKD)
    # From here on the sum of dV: the gradient of the output of the iteration before.
    dposes_BJD = jnp.zeros_like(dposes_BJD)
    for t in range(options.num_iters - 1, 0, -1):
        if t > 1 and not options.detach:
            # dV_t alone: what the votes get waits until every g is known.
            block = partial(_slope_block, leaky=options.leaky)
            dposes_BJD = _over(block, dposes_BJD, tensors, V_TBJD[t - 1], g_TBJD[0])
        else:
            # The last pass: dV_t, and du and dW of all iterations walked so far.
            iterations = V_TBJD[-len(g_TBJD) :], list(g_TBJD), options.leaky, options.detach

            def body(total: Array, part: tuple[Array, Array], iterations: Any = iterations) -> Any:
                slope_BJD, du_CBK, dW_CKM = _gradient_block(*part, *iterations)
                return total + slope_BJD, (du_CBK, dW_CKM)

            dposes_BJD, (du, dW) = lax.scan(body, dposes_BJD, tensors)
            du_BIK = du.reshape(-1, batch, length)[:capsules].transpose(1, 0, 2)
            dW = dW.reshape(-1, length, outputs, size)[:capsules]
            dW_IJKD = dW.transpose(0, 2, 1, 3)
        if options.detach:  # nothing flows to the iterations before
            return du_BIK, dW_IJKD, g_TBJD[0].sum(0)
        g_TBJD.insert(0, _through_squash(sums[t - 1], dposes_BJD))
    # The first iteration, whose coefficients are constants: two matrix products.
    inputs, kernel = _flat(inputs_BIK, kernel_IJKD)
    g = g_TBJD[0].reshape(batch, -1) / (outputs + options.leaky)
    du_BIK = du_BIK + (g @ kernel.T).reshape(inputs_BIK.shape)
    dW = (inputs.T @ g).reshape(capsules, length, outputs, size)
    return du_BIK, dW_IJKD + dW.transpose(0, 2, 1, 3), jnp.stack(g_TBJD).sum((0, 1))


def _refusal(what: str) -> TwincapsError:
    return TwincapsError(
        f"lean routing has no {what}; build the network with lean=False, or call "
        "routing.dynamic, for routing that has"
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _dynamic(options: _Options, inputs_BIK: Array, kernel_IJKD: Array, bias_JD: Array) -> Array:
    return squash(_forward(options, inputs_BIK, kernel_IJKD, bias_JD)[-1])


def _dynamic_forward(
    options: _Options, inputs_BIK: Array, kernel_IJKD: Array, bias_JD: Array
) -> tuple[Array, tuple[Array, Array, list[Array]]]:
    sums = _forward(options, inputs_BIK, kernel_IJKD, bias_JD)
    return squash(sums[-1]), (inputs_BIK, kernel_IJKD, sums)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _gradient(options: _Options, residuals: Any, dposes_BJD: Array) -> tuple[Array, Array, Array]:
    return _backward(options, residuals, dposes_BJD)


@_gradient.defjvp
def _refuse(options: _Options, primals: Any, tangents: Any) -> Any:
    raise _refusal("second derivatives")


_dynamic.defvjp(_dynamic_forward, _gradient)
