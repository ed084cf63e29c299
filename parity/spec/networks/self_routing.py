"""Self-routing capsules on a residual network, of any size, and their rows of the table of weights.

Hahn, Pyeon, Kim, "Self-Routing Capsule Networks" (NeurIPS 2019); where the paper is silent, its
authors' code (coder3000/SR-CapsNet).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from parity.spec.checks import normalise, require
from parity.spec.convolution import Sizes
from parity.spec.layers import Block, CapsuleLayer, Conv, Norm, Pixels, Primary, Tensor
from parity.spec.losses import Loss
from parity.spec.networks.network import NetworkSpec
from parity.spec.routings import Routing


def same(kernel: int) -> int:
    """The padding on each side by which an odd kernel keeps a grid's size at stride 1."""
    return kernel // 2


@dataclass(frozen=True)
class Hahn2019(NetworkSpec):
    """Self-routing capsules: a residual network, first capsules, capsule layers, classes.

    Every convolution and every layer but the last is padded by half its kernel. The class capsules
    see the whole grid; they have activations, which sum to 1, and no poses.

    Attributes:
        pixels: What becomes of an image before the stem.
        stem: Convolutions without bias, each normalised, then relu.
        blocks: The residual network after it.
        norm: After each convolution, and of the poses between capsule layers.
        primary: The first capsules; one convolution makes poses, another of its size activations.
        capsules: Layers between the first capsules and the classes: none is the paper's SR-1.
    """

    network: str = "self_routing"
    image: tuple[int, int, int] = (32, 32, 3)
    pixels: Pixels = Pixels()
    stem: tuple[Conv, ...] = (Conv(16, 3),)
    blocks: tuple[Block, ...] = (
        *(Block(16), Block(16), Block(16)),
        *(Block(32, 2), Block(32), Block(32)),
        *(Block(64, 2), Block(64), Block(64)),
    )
    norm: Norm = Norm(epsilon=1e-5, keep=0.9, first=True)
    primary: Primary = Primary(types=32, size=16, kernel=3, stride=1)
    capsules: tuple[CapsuleLayer, ...] = ()
    classes: int = 10
    routing: Routing = Routing("self_routing")
    loss: Loss = Loss(kind="negative_log_likelihood")

    # No fields, as they have no annotation: the class capsules have activations alone.
    pose = 0
    decoder = None
    padded = True
    ranks = "activations"

    def __post_init__(self) -> None:
        normalise(self)
        self.check()
        self.pixels.fit(self.image[2])
        require(self.norm.first, "norm: first is False; expected True, before the activation")
        channels = self.stem[-1].channels if self.stem else self.image[2]
        for n, block in enumerate(self.blocks):
            require(
                block.channels >= channels,
                f"block.{n}: makes {block.channels} channels of {channels}; expected at least as "
                "many, as a shortcut has zeros for those that are missing",
            )
            channels = block.channels

    def _convolutions(self) -> Iterator[tuple[str, Conv | Primary, Sizes]]:
        """Every convolution with its sizes, of images with their padding, in order."""
        first = self.primary
        pairs: dict[str, Conv | Primary] = {f"stem.{n}": conv for n, conv in enumerate(self.stem)}
        for n, block in enumerate(self.blocks):
            pairs[f"block.{n}.conv.0"] = Conv(block.channels, 3, block.stride)
            pairs[f"block.{n}.conv.1"] = Conv(block.channels, 3)
        (height, width), channels = self.image[:2], self.image[2]
        for name, conv in pairs.items():
            sizes = _padded(conv, (height, width), channels)
            yield name, conv, sizes
            (height, width), channels = sizes.places, conv.channels
        activation = Conv(first.types, first.kernel, first.stride)
        for name, conv in (("activation", activation), ("primary", first)):
            yield name, conv, _padded(conv, (height, width), channels)

    def rectified(self) -> tuple[str, ...]:
        """The taps that a relu takes or makes, as those of every network."""
        stem = tuple(f"stem.{n}.activation" for n in range(len(self.stem)))
        pairs = ((f"block.{n}.conv.0.activation", f"block.{n}") for n in range(len(self.blocks)))
        return stem + tuple(name for pair in pairs for name in pair)

    @property
    def cells(self) -> tuple[float, int]:
        """The grid of the senders over the image, in pixels: its upper left edge, a cell's side."""
        layers = [*self.stem, *self.blocks, self.primary, *self.capsules]
        step = math.prod(layer.stride for layer in layers)
        return -step / 2, step  # padded, the first of each grid lies over the first pixel

    def tensors(self) -> dict[str, Tensor]:
        """Name -> Tensor for every parameter and all state, in the order of execution.

        First weights are those of the authors' code: routing begins uniform, with R and b at 0.
        """
        rows: dict[str, Tensor] = {}
        for name, conv, sizes in self._convolutions():
            shape = (*sizes.kernel, sizes.channels, conv.channels)
            bound = math.sqrt(6 / math.prod(shape[:3]))
            rows[f"{name}.kernel"] = Tensor("kh kw in out", shape, 0.0, 0.0, bound)
            rows |= self.norm.rows(f"{name}.norm", conv.channels)
        types, size = self.primary.types, self.primary.size
        for n, window in enumerate(self.windows):
            layer = self.capsules[n] if n < len(self.capsules) else None
            outputs = self.classes if layer is None else layer.types
            shape = (*window.kernel, types, outputs)
            rows[f"capsule.{n}.route.kernel"] = Tensor("kh kw i j k", (*shape, size), 0.0, 0.0)
            rows[f"capsule.{n}.route.bias"] = Tensor("kh kw i j", shape, 0.0, 0.0)
            if layer is not None:
                # torch's kaiming_uniform takes the product of all axes but the first for the fan.
                bound = math.sqrt(6 / (outputs * layer.size * size))
                shape = (*shape, size, layer.size)
                rows[f"capsule.{n}.kernel"] = Tensor("kh kw i j k d", shape, 0.0, 0.0, bound)
                rows |= self.norm.rows(f"capsule.{n}.norm", outputs * layer.size)
                types, size = layer.types, layer.size
        return rows


def _padded(conv: Conv | Primary, image: tuple[int, int], channels: int) -> Sizes:
    height, width = (size + 2 * same(conv.kernel) for size in image)
    kernel = conv.kernel, conv.kernel
    return Sizes((height, width), kernel, conv.stride, channels, conv.channels)
