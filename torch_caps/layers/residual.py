"""Residual blocks: two normalised convolutions beside a shortcut.

Axes: B batch, H W C feature map.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity import spec as specs
from torch_caps.capsules import Tap, no_tap
from torch_caps.layers.norm import NormalConv, State
from torch_caps.norm import Total


class Block(nn.Module):
    """relu(norm(conv(relu(norm(conv x)))) + shortcut x), 3x3 with padding 1 and without bias.

    The shortcut has no parameters, or is a normalised convolution of 1x1.

    Args:
        width: Channels of what it reads.
        spec: Its channels and stride.
        norm: Of its convolutions.
        compute: dtype of their products.
        method: "direct", "fourier" or "auto", as in `convolution.conv`.
    """

    def __init__(
        self,
        width: int,
        spec: specs.Block,
        norm: specs.Norm,
        compute: torch.dtype,
        method: specs.Method = "auto",
    ):
        super().__init__()
        first, second = specs.Conv(spec.channels, 3, spec.stride), specs.Conv(spec.channels, 3)
        how: Any = compute, method, False, 1
        self.spec = spec
        self.conv = nn.ModuleList(
            [
                NormalConv(width, first, norm, 0.0, *how),
                NormalConv(spec.channels, second, norm, None, *how),
            ]
        )
        if spec.projected:
            short = specs.Conv(spec.channels, 1, spec.stride)
            self.shortcut = NormalConv(width, short, norm, None, compute, method, False)

    def forward(
        self,
        x_BHWC: Tensor,
        name: str,
        *,
        train: bool = False,
        tap: Tap = no_tap,
        total: Total | None = None,
    ) -> tuple[Tensor, State]:
        """[B, H, W, in] -> [B, H', W', out], and new running numbers; see `NormalConv`."""
        how: dict[str, Any] = {"train": train, "tap": tap, "total": total}
        y, state = x_BHWC, {}
        for n, layer in enumerate(self.conv):
            y, new = layer(y, f"{name}.conv.{n}", **how)
            state |= new
        if self.spec.projected:
            short, new = self.shortcut(x_BHWC, f"{name}.shortcut", **how)
            state |= new
        else:
            short = shortcut(x_BHWC, self.spec.channels, self.spec.stride)
        return tap(name, F.relu(y + short)), state


def shortcut(x_BHWC: Tensor, channels: int, stride: int) -> Tensor:
    """Every stride-th pixel, and the missing channels as zeros, half before and half after."""
    x_BHWC = x_BHWC[:, ::stride, ::stride]
    missing = channels - x_BHWC.shape[3]
    before, after = missing // 2, missing - missing // 2
    return F.pad(x_BHWC, (before, after)) if missing else x_BHWC
