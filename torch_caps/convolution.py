"""A convolution without padding, at the rate of matrix products.

Axes: B images of a batch, H W a feature map, C its channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


# Called as it is by compiled code too: with a compiler around it, oneDNN's layouts are lost.
@torch.compiler.disable
def conv(
    x_BHWC: Tensor, kernel: Tensor, stride: int, compute: torch.dtype, bias: Tensor | None = None
) -> Tensor:
    """A convolution without padding, in `compute`: NHWC by OIHW, NHWC; bias [out] is added."""
    # The permuted view is what torch calls channels_last: no copy, and oneDNN's fastest layout.
    x, bias = x_BHWC.permute(0, 3, 1, 2).to(compute), None if bias is None else bias.to(compute)
    return F.conv2d(x, kernel.to(compute), bias, stride=stride).permute(0, 2, 3, 1)
