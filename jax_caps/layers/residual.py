"""Residual blocks: two normalised convolutions beside a shortcut.

Axes: B batch, H W C feature map.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jax_caps.capsules import Tap, no_tap
from jax_caps.layers.norm import NormalConv, State
from jax_caps.norm import Total
from parity import spec as specs


class Block(nnx.Module):
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
        compute: jnp.dtype,
        method: specs.Method = "auto",
    ):
        first, second = specs.Conv(spec.channels, 3, spec.stride), specs.Conv(spec.channels, 3)
        how: Any = compute, method, False, 1
        self.spec = spec
        self.conv = nnx.List(
            [
                NormalConv(width, first, norm, 0.0, *how),
                NormalConv(spec.channels, second, norm, None, *how),
            ]
        )
        if spec.projected:
            short = specs.Conv(spec.channels, 1, spec.stride)
            self.shortcut = NormalConv(width, short, norm, None, compute, method, False)

    def __call__(
        self,
        x_BHWC: Array,
        name: str,
        *,
        train: bool = False,
        tap: Tap = no_tap,
        total: Total | None = None,
    ) -> tuple[Array, State]:
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
        return tap(name, jax.nn.relu(y + short)), state


def shortcut(x_BHWC: Array, channels: int, stride: int) -> Array:
    """Every stride-th pixel, and the missing channels as zeros, half before and half after."""
    x_BHWC = x_BHWC[:, ::stride, ::stride]
    missing = channels - x_BHWC.shape[3]
    before, after = missing // 2, missing - missing // 2
    return jnp.pad(x_BHWC, [(0, 0)] * 3 + [(before, after)]) if missing else x_BHWC
