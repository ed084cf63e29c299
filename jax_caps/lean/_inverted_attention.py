"""Inverted dot-product attention that never stores the votes.

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose,
R rows of a pose that is a matrix (1 of a vector), P and Q columns of input and output poses, C the
input capsules of one block.

An iteration is a sum over the input capsules of what each sends, and that needs the votes of this
one capsule alone. So it is one pass over blocks of input capsules, which makes the votes of a
block, uses them and drops them; for the gradient each block is computed again from its inputs. In
the first iteration every routing coefficient is 1 / J, and the sum is one matrix product.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_caps.routing._inverted_attention import DIVISOR

FITS = 2**24  # bytes of the votes of a block


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
    kernel_IPM = kernel_IJPQ.transpose(0, 2, 1, 3).reshape(inputs, columns, -1)
    if poses_BJD is None:
        x = rows_BIRP.transpose(0, 2, 1, 3).reshape(-1, inputs * columns)
        y = x @ kernel_IPM.reshape(inputs * columns, -1)
        y_BRJQ = y.reshape(batch, -1, outputs, made)
        return y_BRJQ.transpose(0, 2, 1, 3).reshape(batch, outputs, -1) / outputs
    rows_IXP = rows_BIRP.transpose(1, 0, 2, 3).reshape(inputs, -1, columns)
    # Agreements are divided by the root of D once, and the sum by what coefficients are.
    asked_BJD = poses_BJD / poses_BJD.shape[2] ** 0.5
    size = block or max(1, FITS // (poses_BJD.size * poses_BJD.dtype.itemsize))
    size = min(size, inputs)
    # Inputs of zeros fill the last block: they send votes of 0.
    pad = ((0, -inputs % size), (0, 0), (0, 0))
    rows_NCXP, kernel_NCPM = (
        jnp.pad(x, pad).reshape(-1, size, *x.shape[1:]) for x in (rows_IXP, kernel_IPM)
    )

    def add(total_BJD: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        return total_BJD + jax.checkpoint(_block)(*part, asked_BJD), None

    blocks = rows_NCXP, kernel_NCPM
    return lax.scan(add, jnp.zeros_like(poses_BJD), blocks)[0] / DIVISOR


def _block(rows_CXP: Array, kernel_CPM: Array, asked_BJD: Array) -> Array:
    """What a block of input capsules sends to each output capsule."""
    batch, outputs, _ = asked_BJD.shape
    votes = lax.dot_general(rows_CXP, kernel_CPM, (((2,), (1,)), ((0,), (0,))))
    votes_CBRJQ = votes.reshape(len(rows_CXP), batch, -1, outputs, kernel_CPM.shape[2] // outputs)
    votes_BJCD = votes_CBRJQ.transpose(1, 3, 0, 2, 4).reshape(batch, outputs, len(rows_CXP), -1)
    coupling_BJC = jax.nn.softmax(jnp.einsum("bjcd,bjd->bjc", votes_BJCD, asked_BJD), 1)
    return jnp.einsum("bjc,bjcd->bjd", coupling_BJC, votes_BJCD)
