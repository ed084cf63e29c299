"""Inverted dot-product attention that never stores the votes.

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose,
R rows of a pose that is a matrix (1 of a vector), P and Q columns of input and output poses, C the
input capsules of one block.

An iteration is a sum over the input capsules of what each sends, and that needs the votes of this
one capsule alone. So it is one pass over blocks of input capsules, which makes the votes of a
block, uses them and drops them; for the gradient each block is computed again from its inputs. In
the first iteration every routing coefficient is 1 / J, and the sum is one matrix product.
"""

import functools

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from torch_caps.routing._inverted_attention import DIVISOR

FITS = 2**24  # bytes of the votes of a block


def inverted_attention(
    inputs_BIK: Tensor,
    kernel_IJPQ: Tensor,
    poses_BJD: Tensor | None = None,
    *,
    block: int | None = None,
) -> Tensor:
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
        x = rows_BIRP.transpose(1, 2).reshape(-1, inputs * columns)
        y = x @ kernel_IJPQ.transpose(1, 2).reshape(inputs * columns, -1)
        return y.view(batch, -1, outputs, made).transpose(1, 2).flatten(2) / outputs
    rows_IXP = rows_BIRP.transpose(0, 1).flatten(1, 2)
    kernel_IPM = kernel_IJPQ.transpose(1, 2).flatten(2)
    # Agreements are divided by the root of D once, and the sum by what coefficients are.
    asked_BJD = poses_BJD / poses_BJD.shape[2] ** 0.5
    size = block or max(1, FITS // (poses_BJD.numel() * poses_BJD.element_size()))
    parts = []
    for part in zip(rows_IXP.split(size), kernel_IPM.split(size), strict=True):
        parts.append(checkpoint(_block, *part, asked_BJD, use_reentrant=False))
    return functools.reduce(torch.add, parts) / DIVISOR


def _block(rows_CXP: Tensor, kernel_CPM: Tensor, asked_BJD: Tensor) -> Tensor:
    """What a block of input capsules sends to each output capsule."""
    batch, outputs, size = asked_BJD.shape
    votes = torch.bmm(rows_CXP, kernel_CPM)
    votes_CBRJQ = votes.view(len(rows_CXP), batch, -1, outputs, kernel_CPM.shape[2] // outputs)
    votes_BJCD = votes_CBRJQ.permute(1, 3, 0, 2, 4).reshape(batch * outputs, -1, size)
    logits = torch.bmm(votes_BJCD, asked_BJD.flatten(0, 1)[..., None])
    coupling = logits.view(batch, outputs, -1).softmax(1).view(batch * outputs, 1, -1)
    return torch.bmm(coupling, votes_BJCD).view(asked_BJD.shape)
