"""The decoder: what the class capsules say, as an image.

Axes: B batch, J output capsules, D size of an output pose, H W C image.
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jax_caps.convolution import double_size
from jax_caps.layers.norm import leaky
from jax_caps.layers.stem import Conv, one_line, parameter
from jax_caps.losses import one_hot
from parity.spec import Efficient, NetworkSpec


def dense(x: Array, kernel: Array, bias: Array, compute: jnp.dtype) -> Array:
    """The dense layer x @ kernel + bias, its product computed in `compute`.

    Args:
        x: [B, in].
        kernel: [in, out], as canonical weights are.
        bias: [out], in the dtype of `x`, as the result is.
        compute: dtype of the product.
    """
    # The bias is added to the product in the dtype of x, not in bfloat16.
    return (x.astype(compute) @ kernel.astype(compute)).astype(x.dtype) + bias[None]


def mask(poses_BJD: Array, targets: Array) -> Array:
    """Sets every capsule but the targets' to 0 (section 4.1): [B, J, D].

    Args:
        poses_BJD: Class capsules.
        targets: Integer labels [B], or 0/1 [B, J].
    """
    keep_BJ = one_hot(targets, poses_BJD.shape[1], poses_BJD.dtype)
    return poses_BJD * keep_BJ[:, :, None]


class Dense(nnx.Module):
    """A dense layer with a kernel [in, out] and a bias.

    Args:
        width: Numbers of what it reads, in.
        out: Numbers of what it makes.
        compute: dtype of its products.
    """

    __repr__ = __str__ = one_line

    def __init__(self, width: int, out: int, compute: jnp.dtype):
        self.kernel = parameter(width, out)
        self.bias = parameter(out)
        self.compute = compute

    def __call__(self, x: Array) -> Array:
        """[B, in] -> [B, out]."""
        return dense(x, self.kernel[...], self.bias[...], self.compute)


class Decoder(nnx.List):
    """Dense layers with relu, then a sigmoid: masked [B, J, D] -> [B, H, W, C]."""

    __repr__ = __str__ = one_line

    def __init__(self, spec: NetworkSpec, compute: jnp.dtype):
        widths = [spec.classes * spec.pose, *(spec.decoder or ()), spec.num_pixels]
        super().__init__(Dense(width, out, compute) for width, out in pairwise(widths))
        self.image = spec.image

    def __call__(self, masked_BJD: Array) -> Array:
        """Images [B, H, W, C] in 0 to 1, of capsules [B, J, D] masked by `mask`."""
        x = masked_BJD.reshape(masked_BJD.shape[0], -1)
        for n, layer in enumerate(self):
            x = layer(x)
            # The last layer makes pixels from 0 to 1 (figure 2).
            x = jax.nn.sigmoid(x) if n == len(self) - 1 else jax.nn.relu(x)
        return x.reshape(x.shape[0], *self.image)


class UpsamplingDecoder(nnx.List):
    """Dense layers, then images twice as large and a convolution, again and again.

    Masked [B, J, D] -> [B, H, W, C]; see `parity.spec.Upsampling`.
    """

    __repr__ = __str__ = one_line

    def __init__(self, spec: Efficient, compute: jnp.dtype):
        assert spec.upsampling is not None
        assert spec.decoder is not None
        widths = [spec.classes * spec.pose, *spec.decoder]
        channels, size = [1, *spec.upsampling.channels, spec.image[2]], spec.upsampling.kernel
        super().__init__(
            [
                *(Dense(width, out, compute) for width, out in pairwise(widths)),
                *(
                    Conv(width, out, size, 1, compute, "direct")
                    for width, out in pairwise(channels)
                ),
            ]
        )
        self.dense, self.side, self.slope = len(spec.decoder), spec.side, spec.upsampling.slope

    def __call__(self, masked_BJD: Array) -> Array:
        """Images [B, H, W, C] in 0 to 1, of capsules [B, J, D] masked by `mask`."""
        x, last = masked_BJD.reshape(masked_BJD.shape[0], -1), len(self) - 1
        for n, layer in enumerate(self):
            if n == self.dense:
                x = x.reshape(x.shape[0], self.side, self.side, 1)
            x = layer(double_size(x)) if self.dense <= n < last else layer(x)
            x = x.astype(masked_BJD.dtype)
            if n < self.dense - 1:
                x = jax.nn.relu(x)
            elif self.dense <= n < last:
                x = leaky(x, self.slope)
        return jax.nn.sigmoid(x)
