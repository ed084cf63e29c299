"""Residual: what networks of capsules on a residual network share.

Axes: B batch, H W C image or feature map.
"""

import functools
from typing import Any

import jax
from flax import nnx
from jax import Array

from jax_caps.capsules import Tap, no_tap
from jax_caps.layers import Block, Conv, NormalConv, standardised
from jax_caps.networks.network import Network, Total
from jax_caps.numerics import dtypes
from parity import spec as specs
from parity.spec.networks.residual import same


class Residual(Network):
    """A stem of convolutions and residual blocks; a subclass adds the capsules.

    Args:
        spec: What the network is.
        precision: As in `parity.spec.PRECISIONS`.
        convolution: As in `CapsuleNetwork`.
    """

    def __init__(self, spec: specs.Residual, precision: specs.Precision, convolution: specs.Method):
        super().__init__(spec, precision)
        compute = dtypes(precision)[1]
        self.pixels, self.epsilon = spec.pixels, spec.epsilon
        width, stem, blocks = spec.image[2], [], []
        norm: specs.Norm | None = spec.norm
        for layer in spec.stem:
            how: Any = compute, convolution, norm is None, same(layer.kernel)
            if norm is None:
                sizes = width, layer.channels, layer.kernel, layer.stride
                stem.append(Conv(*sizes, *how))
            else:
                stem.append(NormalConv(width, layer, norm, 0.0, *how))
            width = layer.channels
        for layer in spec.blocks:
            assert norm is not None  # or there are no blocks
            blocks.append(Block(width, layer, norm, compute, convolution))
            width = layer.channels
        self.stem, self.block = nnx.List(stem), nnx.List(blocks)
        self.width = width  # channels of the last feature map

    def convolutions(self) -> dict[str, Any]:
        """The layers that convolve, by name, as `NetworkSpec.convolutions` has their sizes."""

        def inside(module: Any, part: str) -> Any:
            return module[int(part)] if part.isdigit() else getattr(module, part)

        names = self.spec.convolutions()
        return {name: functools.reduce(inside, name.split("."), self) for name in names}

    def features(
        self,
        x_BHWC: Array,
        *,
        train: bool = False,
        tap: Tap = no_tap,
        total: Total | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """The last feature map of images, and new running numbers; see `NormalConv`."""
        how: dict[str, Any] = {"train": train, "tap": tap, "total": total}
        x = tap("pixels", standardised(x_BHWC, self.pixels, self.epsilon))
        state: dict[str, Array] = {}
        for n, layer in enumerate(self.stem):
            if isinstance(layer, NormalConv):
                x, new = layer(x, f"stem.{n}", **how)
                state |= new
            else:
                x = tap(f"stem.{n}", jax.nn.relu(layer(x, tap)))
        for n, layer in enumerate(self.block):
            x, new = layer(x, f"block.{n}", **how)
            state |= new
        return x, state
