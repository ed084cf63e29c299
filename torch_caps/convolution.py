"""A convolution without padding, at the rate of matrix products.

Axes: B images of a batch, H W a feature map, C its channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def conv(x_BHWC: Tensor, kernel: Tensor, stride: int, compute: torch.dtype) -> Tensor:
    """A convolution without padding, computed in `compute`: NHWC by OIHW, NHWC returned."""
    # The permuted view is what torch calls channels_last: no copy, and oneDNN's fastest layout.
    y = F.conv2d(x_BHWC.permute(0, 3, 1, 2).to(compute), kernel.to(compute), stride=stride)
    return y.permute(0, 2, 3, 1).to(x_BHWC.dtype)
