"""The decoder: what the class capsules say, as an image.

Axes: B batch, J output capsules, D size of an output pose, H W C image.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity.spec import Efficient, NetworkSpec, Rajasegaran2019
from torch_caps.capsules import Tap, no_tap
from torch_caps.convolution import double_size, transposed
from torch_caps.layers.norm import Norm, State, leaky, normalised
from torch_caps.layers.stem import Conv, one_line, parameter
from torch_caps.losses import one_hot
from torch_caps.norm import Total


def dense(x: Tensor, kernel: Tensor, bias: Tensor, compute: torch.dtype) -> Tensor:
    """The dense layer x @ kernel^T + bias, its product computed in `compute`.

    Args:
        x: [B, in].
        kernel: [out, in], as torch has it.
        bias: [out], in the dtype of `x`, as the result is.
        compute: dtype of the product.
    """
    # The bias is added to the product in the dtype of x, not in bfloat16.
    return F.linear(x.to(compute), kernel.to(compute)).to(x.dtype) + bias


def mask(poses_BJD: Tensor, targets: Tensor) -> Tensor:
    """Sets every capsule but the targets' to 0 (section 4.1): [B, J, D].

    Args:
        poses_BJD: Class capsules.
        targets: Integer labels [B], or 0/1 [B, J].
    """
    keep_BJ = one_hot(targets, poses_BJD.shape[1], poses_BJD.dtype)
    return poses_BJD * keep_BJ[:, :, None]


class Dense(nn.Module):
    """A dense layer with a kernel [out, in] and a bias.

    Args:
        width: Numbers of what it reads, in.
        out: Numbers of what it makes.
        compute: dtype of its products.
    """

    __repr__ = one_line

    def __init__(self, width: int, out: int, compute: torch.dtype):
        super().__init__()
        self.kernel = parameter(out, width)
        self.bias = parameter(out)
        self.compute = compute

    def forward(self, x: Tensor) -> Tensor:
        """[B, in] -> [B, out]."""
        return dense(x, self.kernel, self.bias, self.compute)


class Decoder(nn.ModuleList):
    """Dense layers with relu, then a sigmoid: masked [B, J, D] -> [B, H, W, C]."""

    __repr__ = one_line

    def __init__(self, spec: NetworkSpec, compute: torch.dtype):
        widths = [spec.classes * spec.pose, *(spec.decoder or ()), spec.num_pixels]
        super().__init__(Dense(width, out, compute) for width, out in pairwise(widths))
        self.image = spec.image

    def forward(self, masked_BJD: Tensor) -> Tensor:
        """Images [B, H, W, C] in 0 to 1, of capsules [B, J, D] masked by `mask`."""
        x = masked_BJD.flatten(1)
        for n, layer in enumerate(self):
            x = layer(x)
            # The last layer makes pixels from 0 to 1 (figure 2).
            x = x.sigmoid() if n == len(self) - 1 else F.relu(x)
        return x.reshape(x.shape[0], *self.image)


class UpsamplingDecoder(nn.ModuleList):
    """Dense layers, then images twice as large and a convolution, again and again.

    Masked [B, J, D] -> [B, H, W, C]; see `parity.spec.Upsampling`.
    """

    __repr__ = one_line

    def __init__(self, spec: Efficient, compute: torch.dtype):
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

    def forward(self, masked_BJD: Tensor) -> Tensor:
        """Images [B, H, W, C] in 0 to 1, of capsules [B, J, D] masked by `mask`."""
        x, last = masked_BJD.flatten(1), len(self) - 1
        for n, layer in enumerate(self):
            if n == self.dense:
                x = x.reshape(x.shape[0], self.side, self.side, 1)
            x = layer(double_size(x)) if self.dense <= n < last else layer(x)
            x = x.to(masked_BJD.dtype)
            if n < self.dense - 1:
                x = F.relu(x)
            elif self.dense <= n < last:
                x = leaky(x, self.slope)
        return x.sigmoid()


class TransposedConv(Conv):
    """A transposed convolution with a bias: [B, H, W, in] -> [B, stride * H, stride * W, out]."""

    def forward(self, x_BHWC: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As `convolution.transposed`."""
        return transposed(x_BHWC, self.kernel, self.stride, self.compute, self.bias)


class TransposedDecoder(nn.ModuleList):
    """Dense layers with relu, a normalised map, transposed convolutions, relu.

    Masked [B, J, D] -> [B, H, W, C]: of the one class that is left, and not told which it is. See
    `parity.spec.Transposed`.
    """

    __repr__ = one_line

    def __init__(self, spec: Rajasegaran2019, compute: torch.dtype):
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

    def forward(
        self,
        masked_BJD: Tensor,
        *,
        train: bool = False,
        tap: Tap = no_tap,
        total: Total | None = None,
    ) -> tuple[Tensor, State]:
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
                x = layer(x).to(masked_BJD.dtype)
                continue
            x = tap(f"decoder.{n}", F.relu(layer(x)))
            if n == self.dense - 1:
                x = x.reshape(x.shape[0], *self.side, -1)
                how: Any = {"train": train, "tap": tap, "total": total}
                x, state = normalised(layer.norm, x, f"decoder.{n}.norm", **how)
        return F.relu(x), state
