"""A convolution without padding, at the rate of matrix products.

Axes: B images of a batch, H W a feature map, C its channels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def conv(
    x_BHWC: Tensor, kernel: Tensor, stride: int, compute: torch.dtype, bias: Tensor | None = None
) -> Tensor:
    """A convolution without padding.

    Args:
        x_BHWC: Images or a feature map, [B, H, W, in].
        kernel: [out, in, kh, kw], OIHW as torch has it.
        stride: Pixels, in both directions.
        compute: dtype that it is computed in, and of the result.
        bias: [out], added to every place.

    Returns:
        [B, H', W', out], where H' is (H - kh) // stride + 1, and W' alike.
    """
    return _conv(x_BHWC, kernel, stride, compute, bias)


def _eager(
    x_BHWC: Tensor, kernel: Tensor, stride: int, compute: torch.dtype, bias: Tensor | None
) -> Tensor:
    # The permuted view is what torch calls channels_last: no copy, and oneDNN's fastest layout.
    x, bias = x_BHWC.permute(0, 3, 1, 2).to(compute), None if bias is None else bias.to(compute)
    return F.conv2d(x, kernel.to(compute), bias, stride=stride).permute(0, 2, 3, 1)


# A compiler that sees the permutations chooses layouts of its own, which are slower.
_conv: Any = torch.compiler.disable(_eager)
