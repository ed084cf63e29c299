"""The first capsules: a convolution whose channels are grouped into poses.

Axes: B batch, I capsules, K size of a pose, H W C feature map.
"""

import jax.numpy as jnp
from flax import nnx
from jax import Array

from jax_caps.capsules import Tap, exponential_squash, no_tap, squash
from jax_caps.convolution import depthwise
from jax_caps.layers.stem import Conv, one_line, parameter
from parity.spec import Efficient, Method, Sabour2017


def primary_poses(x_BHWC: Array, types: int) -> Array:
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

    def __init__(self, spec: Sabour2017, compute: jnp.dtype, method: Method = "auto"):
        self.spec = spec.primary
        first = self.spec
        super().__init__(spec.width, first.channels, first.kernel, first.stride, compute, method)

    def __call__(self, x_BHWC: Array, tap: Tap = no_tap) -> Array:
        """Squashed poses [B, I, K] of a feature map [B, H, W, C]."""
        y = self.convolved(x_BHWC, tap).astype(self.bias.dtype)
        # `scale` is 1 in the paper; the authors' code divides by the number of types.
        y = tap("primary.conv", y * self.spec.scale + self.bias[None, None, None])
        return tap("primary.poses", squash(primary_poses(y, self.spec.types)))


class DepthwiseCapsules(nnx.Module):
    """A filter for each channel, grouped into poses and squashed: [B, H, W, C] -> [B, I, K]."""

    __repr__ = __str__ = one_line

    def __init__(self, spec: Efficient):
        self.spec = spec.primary
        self.kernel = parameter(self.spec.kernel, self.spec.kernel, self.spec.channels)
        self.bias = parameter(self.spec.channels)

    def __call__(self, x_BHWC: Array, tap: Tap = no_tap) -> Array:
        """Squashed poses [B, I, K] of a feature map [B, H, W, C]."""
        y = depthwise(x_BHWC, self.kernel[...], self.spec.stride)
        y = tap("primary.conv", y + self.bias[None, None, None])
        return tap("primary.poses", exponential_squash(primary_poses(y, self.spec.types)))
