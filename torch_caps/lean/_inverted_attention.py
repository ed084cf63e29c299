"""Inverted dot-product attention that never stores the votes.

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose,
R rows of a pose that is a matrix (1 of a vector), P and Q columns of input and output poses, C the
input capsules of one block.

An iteration is a sum over the input capsules of what each sends, and that needs the votes of this
one capsule alone. So it is one pass over blocks of samples and input capsules, which makes the
votes of a block, uses them and drops them; for the gradient a block is computed again from its
inputs. In the first iteration every coefficient is 1 / J, and the sum is one matrix product.
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
    # Agreements are divided by the root of D once, and the sum by what coefficients are.
    asked_BJD = poses_BJD / poses_BJD.shape[2] ** 0.5
    capsules, samples = _fitting(inputs_BIK, poses_BJD, block)
    sums = []
    for rows, asked in zip(rows_BIRP.split(samples), asked_BJD.split(samples), strict=True):
        parts = zip(rows.split(capsules, 1), kernel_IJPQ.split(capsules), strict=True)
        sent = (checkpoint(_block, *part, asked, use_reentrant=False) for part in parts)
        sums.append(functools.reduce(torch.add, sent))
    return torch.cat(sums) / DIVISOR


def _fitting(inputs_BIK: Tensor, poses_BJD: Tensor, block: int | None) -> tuple[int, int]:
    """The numbers of input capsules and samples of a block."""
    size = poses_BJD[0].numel() * poses_BJD.element_size()  # of one capsule's votes, in bytes
    capsules = min(block or max(1, FITS // size), inputs_BIK.shape[1])
    return capsules, max(1, FITS // (size * capsules))


def _block(rows_BCRP: Tensor, kernel_CJPQ: Tensor, asked_BJD: Tensor) -> Tensor:
    """What a block of input capsules sends to each output capsule, [B, J, D]."""
    votes_BJCRQ = torch.einsum("bcrp,cjpq->bjcrq", rows_BCRP, kernel_CJPQ)
    votes_BJCD = votes_BJCRQ.flatten(3)
    coupling_BJC = torch.einsum("bjcd,bjd->bjc", votes_BJCD, asked_BJD).softmax(1)
    return torch.einsum("bjc,bjcd->bjd", coupling_BJC, votes_BJCD)
