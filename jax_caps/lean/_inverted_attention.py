"""Inverted dot-product attention that never stores the votes.

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose,
R rows of a pose that is a matrix (1 of a vector), P and Q columns of input and output poses, C the
input capsules of one block, N blocks of input capsules.

An iteration is a sum over the input capsules of what each sends, and that needs the votes of this
one capsule alone. So it is one pass over blocks of samples and input capsules, which makes the
votes of a block, uses them and drops them; for the gradient a block is computed again from its
inputs. In the first iteration every coefficient is 1 / J, and the sum is one matrix product.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_caps.routing._inverted_attention import DIVISOR

FITS = 2**22  # bytes of the votes of a block


def inverted_attention(
    inputs_BIK: Array,
    kernel_IJPQ: Array,
    poses_BJD: Array | None = None,
    *,
    block: int | None = None,
) -> Array:
    """`routing.inverted_attention` of the votes of these inputs, which are never stored.

    Args:
        inputs_BIK: The poses of the input capsules; of R rows of P where they are matrices.
        kernel_IJPQ: A matrix for each pair of an input and an output capsule; P is K for vectors.
        poses_BJD: Of the output capsules after the step before; None for none.
        block: Input capsules whose votes are in memory at a time; None chooses from the sizes.

    Returns:
        Poses [B, J, D], without the routing coefficients.
    """
    batch, inputs, _ = inputs_BIK.shape
    _, outputs, columns, made = kernel_IJPQ.shape
    rows_BIRP = inputs_BIK.reshape(batch, inputs, -1, columns)
    if poses_BJD is None:
        x = rows_BIRP.transpose(0, 2, 1, 3).reshape(-1, inputs * columns)
        y = x @ kernel_IJPQ.transpose(0, 2, 1, 3).reshape(inputs * columns, -1)
        y_BRJQ = y.reshape(batch, -1, outputs, made)
        return y_BRJQ.transpose(0, 2, 1, 3).reshape(batch, outputs, -1) / outputs
    # Agreements are divided by the root of D once, and the sum by what coefficients are.
    asked_BJD = poses_BJD / poses_BJD.shape[2] ** 0.5
    capsules, samples = _fitting(inputs_BIK, poses_BJD, block)
    # Input capsules of zeros fill the last block, whose votes of 0 add nothing, and so do samples.
    more = -inputs % capsules
    rows_BIRP = jnp.pad(rows_BIRP, ((0, -batch % samples), (0, more), (0, 0), (0, 0)))
    asked_BJD = jnp.pad(asked_BJD, ((0, -batch % samples), (0, 0), (0, 0)))
    kernel_NCJPQ = jnp.pad(kernel_IJPQ, ((0, more), (0, 0), (0, 0), (0, 0)))
    kernel_NCJPQ = kernel_NCJPQ.reshape(-1, capsules, *kernel_IJPQ.shape[1:])

    def of_samples(given: tuple[Array, Array]) -> Array:
        rows_BIRP, asked_BJD = given
        rows_BNCRP = rows_BIRP.reshape(samples, -1, capsules, *rows_BIRP.shape[2:])

        def add(total_BJD: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
            return total_BJD + jax.checkpoint(_block)(*part, asked_BJD), None

        blocks = rows_BNCRP.transpose(1, 0, 2, 3, 4), kernel_NCJPQ
        return lax.scan(add, jnp.zeros_like(asked_BJD), blocks)[0]

    given = (x.reshape(-1, samples, *x.shape[1:]) for x in (rows_BIRP, asked_BJD))
    sums_BJD = lax.map(of_samples, tuple(given)).reshape(-1, *poses_BJD.shape[1:])
    return sums_BJD[:batch] / DIVISOR


def _fitting(inputs_BIK: Array, poses_BJD: Array, block: int | None) -> tuple[int, int]:
    """The numbers of input capsules and samples of a block."""
    (batch, inputs, _), outputs, size = inputs_BIK.shape, *poses_BJD.shape[1:]
    bytes_ = outputs * size * poses_BJD.dtype.itemsize  # of one capsule's votes
    capsules = min(block or max(1, FITS // bytes_), inputs)
    return capsules, min(max(1, FITS // (bytes_ * capsules)), batch)


def _block(rows_BCRP: Array, kernel_CJPQ: Array, asked_BJD: Array) -> Array:
    """What a block of input capsules sends to each output capsule, [B, J, D]."""
    votes_BJCRQ = jnp.einsum("bcrp,cjpq->bjcrq", rows_BCRP, kernel_CJPQ)
    votes_BJCD = votes_BJCRQ.reshape(*votes_BJCRQ.shape[:3], -1)
    coupling_BJC = jax.nn.softmax(jnp.einsum("bjcd,bjd->bjc", votes_BJCD, asked_BJD), 1)
    return jnp.einsum("bjc,bjcd->bjd", coupling_BJC, votes_BJCD)
