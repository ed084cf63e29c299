"""The decoder: what the class capsules say, as an image.

Axes: B batch, J output capsules, D size of an output pose, H W C image.
"""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jax_caps.capsules import Tap, no_tap
from jax_caps.convolution import double_size, transposed
from jax_caps.layers.norm import Norm, State, leaky, normalised
from jax_caps.layers.stem import Conv, one_line, parameter
from jax_caps.losses import one_hot
from jax_caps.norm import Total
from parity.spec import Efficient, NetworkSpec, Rajasegaran2019


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


class TransposedConv(Conv):
    """A transposed convolution with a bias: [B, H, W, in] -> [B, stride * H, stride * W, out]."""

    def __call__(self, x_BHWC: Array) -> Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As `convolution.transposed`."""
        return transposed(x_BHWC, self.kernel[...], self.stride, self.compute, self.bias[...])


class TransposedDecoder(nnx.List):
    """Dense layers with relu, a normalised map, transposed convolutions, relu.

    Masked [B, J, D] -> [B, H, W, C]: of the one class that is left, and not told which it is. See
    `parity.spec.Transposed`.
    """

    __repr__ = __str__ = one_line

    def __init__(self, spec: Rajasegaran2019, compute: jnp.dtype):
        up, hidden = spec.upsampling, spec.decoder or ()
        dense: list[Any] = [Dense(*pair, compute) for pair in pairwise((spec.pose, *hidden))]
        dense[-1].norm = Norm(up.norm, spec.depth)
        widths = pairwise((spec.depth, *up.channels, spec.image[2]))
        convs = [
            TransposedConv(*pair, up.kernel, stride, compute, "direct")
            for pair, stride in zip(widths, up.strides, strict=True)
        ]
        super().__init__([*dense, *convs])
        self.dense, self.side = len(dense), spec.side

    def __call__(
        self,
        masked_BJD: Array,
        *,
        train: bool = False,
        tap: Tap = no_tap,
        total: Total | None = None,
    ) -> tuple[Array, State]:
        """Images [B, H, W, C] of at least 0, and new running numbers by the names of their rows.

        Args:
            masked_BJD: Capsules masked by `mask`.
            train: Whether this is a training step.
            tap: Sees what each dense layer makes, the map's norm and its new running numbers.
            total: The sum over processes, as in `norm.batch`.
        """
        # The others are 0: the sum over the classes is the pose of the one that is left.
        x, state = masked_BJD.sum(1), {}
        layer: Any
        for n, layer in enumerate(self):
            if n >= self.dense:  # no activation between them
                x = layer(x).astype(masked_BJD.dtype)
                continue
            x = tap(f"decoder.{n}", jax.nn.relu(layer(x)))
            if n == self.dense - 1:
                x = x.reshape(x.shape[0], *self.side, -1)
                how: Any = {"train": train, "tap": tap, "total": total}
                x, state = normalised(layer.norm, x, f"decoder.{n}.norm", **how)
        return jax.nn.relu(x), state
