"""What networks of capsules on a residual network share: its convolutions and their sizes."""

import math
from collections.abc import Iterator
from typing import Any

from parity.spec.checks import require
from parity.spec.convolution import Sizes
from parity.spec.layers import Block, Conv, Pixels, Primary, Tensor
from parity.spec.networks.network import NetworkSpec


def same(kernel: int) -> int:
    """The padding on each side by which an odd kernel keeps a grid's size at stride 1."""
    return kernel // 2


class Residual(NetworkSpec):
    """A stem, residual blocks and the convolution of the first capsules, each padded.

    Attributes:
        stem: Convolutions, each normalised, then relu; without a norm they have a bias instead.
        blocks: The residual network after it.
        norm: After each convolution of both.
    """

    pixels: Pixels
    blocks: tuple[Block, ...]
    norm: Any  # Norm, or None

    @property
    def epsilon(self) -> float:
        """What is added to the variance of an image that is standardised by its own numbers."""
        return 1e-5 if self.norm is None else self.norm.epsilon

    def check(self) -> None:
        """Raises SpecError for sizes that cannot be built."""
        super().check()
        first = self.norm is None or self.norm.first
        require(first, "norm: first is False; expected True, before the activation")
        require(
            self.norm is not None or not self.blocks,
            "blocks: are normalised, and norm is None; give a norm, or no blocks",
        )
        channels = self.width
        for n, block in enumerate(self.blocks):
            require(
                block.projected or block.channels >= channels,
                f"block.{n}: makes {block.channels} channels of {channels}; expected at least as "
                "many, as a shortcut has zeros for those that are missing, or projected=True",
            )
            channels = block.channels

    def _convolutions(self) -> Iterator[tuple[str, Conv | Primary, Sizes]]:
        """Every convolution with its sizes, of images with their padding, in order."""
        (height, width), channels = self.image[:2], self.image[2]
        for n, conv in enumerate(self.stem):
            sizes = padded(conv, (height, width), channels)
            yield f"stem.{n}", conv, sizes
            (height, width), channels = sizes.places, conv.channels
        for n, block in enumerate(self.blocks):
            image = height, width
            for m, stride in enumerate((block.stride, 1)):
                conv = Conv(block.channels, 3, stride)
                sizes = padded(conv, (height, width), channels if m == 0 else block.channels)
                yield f"block.{n}.conv.{m}", conv, sizes
                height, width = sizes.places
            if block.projected:
                conv = Conv(block.channels, 1, block.stride)
                yield f"block.{n}.shortcut", conv, padded(conv, image, channels)
            channels = block.channels
        yield from self._first_capsules((height, width), channels)

    def _first_capsules(
        self, image: tuple[int, int], channels: int
    ) -> Iterator[tuple[str, Conv | Primary, Sizes]]:
        """The convolutions after the blocks, whose map has this height, width and channels."""
        yield "primary", self.primary, padded(self.primary, image, channels)

    def rectified(self) -> tuple[str, ...]:
        """The taps that a relu takes or makes, as those of every network."""
        taken = "" if self.norm is None else ".norm"
        stem = tuple(f"stem.{n}{taken}" for n in range(len(self.stem)))
        pairs = ((f"block.{n}.conv.0.norm", f"block.{n}") for n in range(len(self.blocks)))
        return stem + tuple(name for pair in pairs for name in pair)

    @property
    def cells(self) -> tuple[float, int]:
        """The grid of the senders over the image, in pixels: its upper left edge, a cell's side."""
        # Padded, the first place of a grid lies over the first pixel.
        middle, layers = 0.0, [*self.stem, *self.blocks, self.primary]
        step = math.prod(layer.stride for layer in layers)
        for layer in self.capsules:
            middle += 0.0 if self.padded else (layer.kernel - 1) / 2 * step
            step *= layer.stride
        return middle - step / 2, step


def kernel(conv: Conv | Primary, sizes: Sizes, gain: float) -> Tensor:
    """The row of a convolution's kernel, first uniform within the root of gain / fan-in."""
    shape = (*sizes.kernel, sizes.channels, conv.channels)
    bound = math.sqrt(gain / math.prod(shape[:3]))
    return Tensor("kh kw in out", shape, 0.0, 0.0, bound)


def padded(conv: Conv | Primary, image: tuple[int, int], channels: int) -> Sizes:
    """The sizes of a convolution of an image that is padded by half its kernel."""
    height, width = (size + 2 * same(conv.kernel) for size in image)
    kernel = conv.kernel, conv.kernel
    return Sizes((height, width), kernel, conv.stride, channels, conv.channels)
