"""The layers: a stem of convolutions, primary capsules, digit capsules, the decoder.

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose,
H W C image. Each layer is a function of its parameters and a module that holds them. Parameters
have torch's order of axes, images and feature maps are NHWC between layers.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity.spec import NetworkSpec
from torch_caps import lean, routing
from torch_caps.capsules import Tap, no_tap, squash, votes
from torch_caps.convolution import conv
from torch_caps.losses import one_hot


def dense(x: Tensor, kernel: Tensor, bias: Tensor, compute: torch.dtype) -> Tensor:
    """x @ kernel^T + bias with the product computed in `compute`; kernel [out, in]."""
    return F.linear(x.to(compute), kernel.to(compute)).to(x.dtype) + bias


def primary_poses(x_BHWC: Tensor, types: int) -> Tensor:
    """Feature maps as capsule poses [B, I, K], I in (height, width, type) order.

    channel = type * K + component, so capsules are groups of channels at one place; grouping
    an NCHW tensor instead makes capsules of neighbouring pixels.
    """
    batch, height, width, channels = x_BHWC.shape
    return x_BHWC.reshape(batch, height * width * types, channels // types)


def mask(poses_BJD: Tensor, targets: Tensor) -> Tensor:
    """Every capsule but the target's set to 0: [B, J, D]; targets int [B] or 0/1 [B, J]."""
    keep_BJ = one_hot(targets, poses_BJD.shape[1], poses_BJD.dtype)
    return poses_BJD * keep_BJ[:, :, None]


def _parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape))


class Conv(nn.Module):
    """A convolution with a kernel OIHW and a bias, computed in `compute`."""

    def __init__(self, width: int, out: int, size: int, stride: int, compute: torch.dtype):
        super().__init__()
        kernel = torch.empty(out, size, size, width)  # in memory, as the convolution reads it
        self.kernel = nn.Parameter(kernel.permute(0, 3, 1, 2))
        self.bias = _parameter(out)
        self.stride, self.compute = stride, compute

    def forward(self, x_BHWC: Tensor) -> Tensor:
        return conv(x_BHWC, self.kernel, self.stride, self.compute, self.bias)


class Dense(nn.Module):
    """A dense layer with a kernel [out, in] and a bias, computed in `compute`."""

    def __init__(self, width: int, out: int, compute: torch.dtype):
        super().__init__()
        self.kernel = _parameter(out, width)
        self.bias = _parameter(out)
        self.compute = compute

    def forward(self, x: Tensor) -> Tensor:
        return dense(x, self.kernel, self.bias, self.compute)


class Stem(nn.ModuleList):
    """Convolutions, each followed by relu: [B, H, W, C] -> [B, H', W', channels]."""

    def __init__(self, spec: NetworkSpec, compute: torch.dtype):
        widths = [spec.image[2], *(each.channels for each in spec.stem)]
        super().__init__(
            Conv(width, each.channels, each.kernel, each.stride, compute)
            for width, each in zip(widths, spec.stem, strict=False)
        )

    def forward(self, x_BHWC: Tensor, tap: Tap = no_tap) -> Tensor:
        for n, layer in enumerate(self):
            x_BHWC = tap(f"stem.{n}", F.relu(layer(x_BHWC)))
        return x_BHWC


class PrimaryCapsules(Conv):
    """The first capsules: a convolution, reshaped and squashed: [B, H, W, C] -> [B, I, K]."""

    def __init__(self, spec: NetworkSpec, compute: torch.dtype):
        width = spec.stem[-1].channels if spec.stem else spec.image[2]
        self.spec = spec.primary
        super().__init__(width, self.spec.channels, self.spec.kernel, self.spec.stride, compute)

    def forward(self, x_BHWC: Tensor, tap: Tap = no_tap) -> Tensor:
        y = conv(x_BHWC, self.kernel, self.stride, self.compute).to(self.bias.dtype)
        y = tap("primary.conv", y * self.spec.scale + self.bias)
        return tap("primary.poses", squash(primary_poses(y, self.spec.types)))


class DigitCapsules(nn.Module):
    """A vote of every input for every output capsule, then routing: [B, I, K] -> [B, J, D]."""

    def __init__(self, spec: NetworkSpec, lean: bool = True, block: int | None = None):
        super().__init__()
        sizes = spec.num_inputs, spec.primary.size, spec.classes, spec.pose
        kernel = torch.empty(sizes)  # in memory, as lean routing reads it
        self.kernel = nn.Parameter(kernel.transpose(1, 2))
        self.bias = _parameter(spec.classes, spec.pose) if spec.routing.bias else None
        self.spec, self.lean, self.block = spec.routing, lean, block

    def forward(self, inputs_BIK: Tensor, tap: Tap = no_tap) -> Tensor:
        options: dict[str, Any] = {
            "num_iters": self.spec.num_iters,
            "bias_JD": self.bias,
            "leaky": self.spec.leaky,
            "detach": self.spec.detach,
        }
        if self.lean and tap is no_tap:  # a tap wants to see the votes
            route = getattr(lean, self.spec.name)
            return route(inputs_BIK, self.kernel, **options, block=self.block)
        votes_BIJD = tap("votes", votes(inputs_BIK, self.kernel))
        poses_BJD, _ = getattr(routing, self.spec.name)(votes_BIJD, **options, tap=tap)
        return poses_BJD


class Decoder(nn.ModuleList):
    """Dense layers with relu, the last with a sigmoid: masked [B, J, D] -> [B, H, W, C]."""

    def __init__(self, spec: NetworkSpec, compute: torch.dtype):
        widths = [spec.classes * spec.pose, *(spec.decoder or ()), spec.num_pixels]
        super().__init__(Dense(width, out, compute) for width, out in pairwise(widths))
        self.image = spec.image

    def forward(self, masked_BJD: Tensor) -> Tensor:
        x = masked_BJD.flatten(1)
        for n, layer in enumerate(self):
            x = layer(x)
            x = x.sigmoid() if n == len(self) - 1 else F.relu(x)
        return x.reshape(len(x), *self.image)
