"""A digit layer written the way most public PyTorch code writes it: right, and naive on purpose.

The kernel is broadcast over the batch by `matmul`, the votes are held as [B, I, J, D, 1], logits
are stored and updated step by step, everything is a broadcast product and a sum. It is the
baseline of the benchmarks, so it stays as it is.

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose.
"""

import torch
from torch import Tensor


def squash(s: Tensor) -> Tensor:
    """s * |s| / (1 + |s|^2) over the last axis but one; not defined at 0, as is usual."""
    square = (s**2).sum(dim=-2, keepdim=True)
    return square / (1.0 + square) * s / torch.sqrt(square)


def dynamic(inputs_BIK: Tensor, kernel_IJKD: Tensor, *, num_iters: int = 3) -> Tensor:
    """Votes and routing by agreement (procedure 1): [B, I, K] and [I, J, K, D] -> [B, J, D]."""
    batch, inputs, _ = inputs_BIK.shape
    outputs = kernel_IJKD.shape[1]
    kernel = kernel_IJKD.transpose(2, 3).unsqueeze(0)  # [1, I, J, D, K]
    votes = torch.matmul(kernel, inputs_BIK[:, :, None, :, None])  # [B, I, J, D, 1]
    logits = torch.zeros(batch, inputs, outputs, 1, 1, device=votes.device, dtype=votes.dtype)
    poses = votes[:, :1]
    for t in range(num_iters):
        coupling = torch.softmax(logits, dim=2)
        poses = squash((coupling * votes).sum(dim=1, keepdim=True))  # [B, 1, J, D, 1]
        if t < num_iters - 1:
            logits = logits + (votes * poses).sum(dim=-2, keepdim=True)
    return poses[:, 0, :, :, 0]
