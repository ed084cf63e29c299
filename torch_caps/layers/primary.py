"""The first capsules: a convolution whose channels are grouped into poses.

Axes: B batch, I capsules, K size of a pose, H W C feature map.
"""

import torch
from torch import Tensor, nn

from parity.spec import Efficient, Method, Sabour2017
from torch_caps.capsules import Tap, exponential_squash, no_tap, squash
from torch_caps.convolution import depthwise
from torch_caps.layers.stem import Conv, one_line, parameter


def primary_poses(x_BHWC: Tensor, types: int) -> Tensor:
    """Groups the channels of a feature map into capsules.

    channel = type * K + component, so a capsule is a group of channels at one place. Grouping an
    NCHW tensor would make capsules of neighbouring pixels instead.

    Args:
        x_BHWC: A feature map whose channels are types * K.
        types: Capsules at each place.

    Returns:
        Poses [B, I, K], I in (height, width, type) order.
    """
    batch, height, width, channels = x_BHWC.shape
    return x_BHWC.reshape(batch, height * width * types, channels // types)


class PrimaryCapsules(Conv):
    """A convolution, grouped into poses and squashed: [B, H, W, C] -> [B, I, K]."""

    def __init__(self, spec: Sabour2017, compute: torch.dtype, method: Method = "auto"):
        self.spec = spec.primary
        first = self.spec
        super().__init__(spec.width, first.channels, first.kernel, first.stride, compute, method)

    def forward(self, x_BHWC: Tensor, tap: Tap = no_tap) -> Tensor:
        """Squashed poses [B, I, K] of a feature map [B, H, W, C]."""
        y = self.convolved(x_BHWC, tap).to(self.bias.dtype)
        # `scale` is 1 in the paper; the authors' code divides by the number of types.
        y = tap("primary.conv", y * self.spec.scale + self.bias)
        return tap("primary.poses", squash(primary_poses(y, self.spec.types)))


class DepthwiseCapsules(nn.Module):
    """A filter for each channel, grouped into poses and squashed: [B, H, W, C] -> [B, I, K]."""

    __repr__ = one_line

    def __init__(self, spec: Efficient):
        super().__init__()
        self.spec = spec.primary
        size = self.spec.kernel
        kernel = torch.empty(size, size, self.spec.channels)  # in memory, as a feature map is
        self.kernel = nn.Parameter(kernel.permute(2, 0, 1))
        self.bias = parameter(self.spec.channels)

    def forward(self, x_BHWC: Tensor, tap: Tap = no_tap) -> Tensor:
        """Squashed poses [B, I, K] of a feature map [B, H, W, C]."""
        y = tap("primary.conv", depthwise(x_BHWC, self.kernel, self.spec.stride) + self.bias)
        return tap("primary.poses", exponential_squash(primary_poses(y, self.spec.types)))
