"""The layers: a stem of convolutions, primary capsules, digit capsules, the decoder.

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose,
H W C image. Each layer is a function of its parameters and a module that holds them. Parameters
have the canonical order of axes, images and feature maps are NHWC.
"""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jax_caps import lean, routing
from jax_caps.capsules import Tap, no_tap, squash, votes
from jax_caps.convolution import conv
from jax_caps.losses import one_hot
from parity.spec import NetworkSpec


def dense(x: Array, kernel: Array, bias: Array, compute: jnp.dtype) -> Array:
    """x @ kernel + bias with the product computed in `compute`; kernel [in, out]."""
    return (x.astype(compute) @ kernel.astype(compute)).astype(x.dtype) + bias[None]


def primary_poses(x_BHWC: Array, types: int) -> Array:
    """Feature maps as capsule poses [B, I, K], I in (height, width, type) order.

    channel = type * K + component, so capsules are groups of channels at one place; grouping
    an NCHW tensor instead makes capsules of neighbouring pixels.
    """
    batch, height, width, channels = x_BHWC.shape
    return x_BHWC.reshape(batch, height * width * types, channels // types)


def mask(poses_BJD: Array, targets: Array) -> Array:
    """Every capsule but the target's set to 0: [B, J, D]; targets int [B] or 0/1 [B, J]."""
    keep_BJ = one_hot(targets, poses_BJD.shape[1], poses_BJD.dtype)
    return poses_BJD * keep_BJ[:, :, None]


def _parameter(*shape: int) -> nnx.Param:
    return nnx.Param(jnp.zeros(shape))


class Conv(nnx.Module):
    """A convolution with a kernel HWIO and a bias, computed in `compute`."""

    def __init__(self, width: int, out: int, size: int, stride: int, compute: jnp.dtype):
        self.kernel = _parameter(size, size, width, out)
        self.bias = _parameter(out)
        self.stride, self.compute = stride, compute

    def __call__(self, x_BHWC: Array) -> Array:
        return conv(x_BHWC, self.kernel[...], self.stride, self.compute, self.bias[...])


class Dense(nnx.Module):
    """A dense layer with a kernel [in, out] and a bias, computed in `compute`."""

    def __init__(self, width: int, out: int, compute: jnp.dtype):
        self.kernel = _parameter(width, out)
        self.bias = _parameter(out)
        self.compute = compute

    def __call__(self, x: Array) -> Array:
        return dense(x, self.kernel[...], self.bias[...], self.compute)


class Stem(nnx.List):
    """Convolutions, each followed by relu: [B, H, W, C] -> [B, H', W', channels]."""

    def __init__(self, spec: NetworkSpec, compute: jnp.dtype):
        widths = [spec.image[2], *(each.channels for each in spec.stem)]
        super().__init__(
            Conv(width, each.channels, each.kernel, each.stride, compute)
            for width, each in zip(widths, spec.stem, strict=False)
        )

    def __call__(self, x_BHWC: Array, tap: Tap = no_tap) -> Array:
        for n, layer in enumerate(self):
            x_BHWC = tap(f"stem.{n}", jax.nn.relu(layer(x_BHWC)))
        return x_BHWC


class PrimaryCapsules(Conv):
    """The first capsules: a convolution, reshaped and squashed: [B, H, W, C] -> [B, I, K]."""

    def __init__(self, spec: NetworkSpec, compute: jnp.dtype):
        width = spec.stem[-1].channels if spec.stem else spec.image[2]
        self.spec = spec.primary
        super().__init__(width, self.spec.channels, self.spec.kernel, self.spec.stride, compute)

    def __call__(self, x_BHWC: Array, tap: Tap = no_tap) -> Array:
        y = conv(x_BHWC, self.kernel[...], self.stride, self.compute).astype(self.bias.dtype)
        y = tap("primary.conv", y * self.spec.scale + self.bias[None, None, None])
        return tap("primary.poses", squash(primary_poses(y, self.spec.types)))


class DigitCapsules(nnx.Module):
    """A vote of every input for every output capsule, then routing: [B, I, K] -> [B, J, D]."""

    def __init__(self, spec: NetworkSpec, lean: bool = True, block: int | None = None):
        self.kernel = _parameter(spec.num_inputs, spec.classes, spec.primary.size, spec.pose)
        self.bias = _parameter(spec.classes, spec.pose) if spec.routing.bias else None
        self.spec, self.lean, self.block = spec.routing, lean, block

    def __call__(self, inputs_BIK: Array, tap: Tap = no_tap) -> Array:
        options: dict[str, Any] = {
            "num_iters": self.spec.num_iters,
            "bias_JD": None if self.bias is None else self.bias[...],
            "leaky": self.spec.leaky,
            "detach": self.spec.detach,
        }
        if self.lean and tap is no_tap:  # a tap wants to see the votes
            route = getattr(lean, self.spec.name)
            return route(inputs_BIK, self.kernel[...], **options, block=self.block)
        votes_BIJD = tap("votes", votes(inputs_BIK, self.kernel[...]))
        poses_BJD, _ = getattr(routing, self.spec.name)(votes_BIJD, **options, tap=tap)
        return poses_BJD


class Decoder(nnx.List):
    """Dense layers with relu, the last with a sigmoid: masked [B, J, D] -> [B, H, W, C]."""

    def __init__(self, spec: NetworkSpec, compute: jnp.dtype):
        widths = [spec.classes * spec.pose, *(spec.decoder or ()), spec.num_pixels]
        super().__init__(Dense(width, out, compute) for width, out in pairwise(widths))
        self.image = spec.image

    def __call__(self, masked_BJD: Array) -> Array:
        x = masked_BJD.reshape(len(masked_BJD), -1)
        for n, layer in enumerate(self):
            x = layer(x)
            x = jax.nn.sigmoid(x) if n == len(self) - 1 else jax.nn.relu(x)
        return x.reshape(len(x), *self.image)
