"""The network of 2017, of any size, and its rows of the table of weights.

Sabour, Frosst, Hinton, "Dynamic Routing Between Capsules" (2017), figures 1 and 2.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from parity.spec.checks import COUNT, FINITE, FROM_ZERO, check, fields, normalise, require
from parity.spec.layers import Conv, Primary, Tensor
from parity.spec.losses import Loss
from parity.spec.routings import Routing


@dataclass(frozen=True)
class Init:
    """First weights: the deviation of a normal cut at two of them, and the biases."""

    stem: float = 0.05
    primary: float = 0.05
    digit: float = 0.1
    decoder: float = 0.1
    bias: float = 0.0

    def __post_init__(self) -> None:
        normalise(self)
        check("init", FROM_ZERO, **fields(self, "stem primary digit decoder"))
        check("init", FINITE, bias=self.bias)


class _Sized(NamedTuple):
    """A convolution of the network and the size of the feature map that it reads."""

    name: str
    conv: Conv | Primary
    height: int
    width: int

    @property
    def output(self) -> tuple[int, int]:
        """Height and width of the feature map that it makes, without padding."""
        kernel, stride = self.conv.kernel, self.conv.stride
        return (self.height - kernel) // stride + 1, (self.width - kernel) // stride + 1


@dataclass(frozen=True)
class NetworkSpec:
    """A capsule network of any size.

    `preset` has named ones, `dataclasses.replace` varies them.

    Attributes:
        image: Height, width, channels of the input, pixels in [0, 1].
        classes: J, one output capsule each.
        pose: D, length of an output capsule's pose.
        decoder: Widths of the hidden layers, or None for a network that reconstructs nothing.
    """

    image: tuple[int, int, int] = (28, 28, 1)
    stem: tuple[Conv, ...] = (Conv(256, 9),)
    primary: Primary = Primary()
    classes: int = 10
    pose: int = 16
    routing: Routing = Routing()
    decoder: tuple[int, ...] | None = (512, 1024)
    loss: Loss = Loss()
    init: Init = Init()

    def __post_init__(self) -> None:
        normalise(self)
        require(
            len(self.image) == 3, f"image is {self.image!r}; expected (height, width, channels)"
        )
        height, width, channels = self.image
        check("image", COUNT, height=height, width=width, channels=channels)
        check("network", COUNT, classes=self.classes, pose=self.pose)
        check("decoder", COUNT, **{f"width {i}": n for i, n in enumerate(self.decoder or ())})
        for layer in self._convolutions():
            kernel = layer.conv.kernel
            require(
                kernel <= min(layer.height, layer.width),
                f"{layer.name}: a kernel of {kernel}x{kernel} (stride {layer.conv.stride}) is "
                f"larger than its input of {layer.height}x{layer.width}; use a smaller kernel or a "
                f"larger image than {height}x{width}",
            )

    def _convolutions(self) -> Iterator[_Sized]:
        """The stem's convolutions and the primary layer's, in the order of execution."""
        height, width = self.image[:2]
        named: dict[str, Conv | Primary] = {f"stem.{n}": conv for n, conv in enumerate(self.stem)}
        for name, conv in (named | {"primary": self.primary}).items():
            layer = _Sized(name, conv, height, width)
            yield layer
            height, width = layer.output

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the grid of primary capsules."""
        *_, last = self._convolutions()
        return last.output

    @property
    def num_inputs(self) -> int:
        """I: primary capsules in (height, width, type) order."""
        return self.grid[0] * self.grid[1] * self.primary.types

    @property
    def num_pixels(self) -> int:
        """Numbers in one image, and outputs of the decoder."""
        return math.prod(self.image)

    @property
    def margin_scale(self) -> float:
        """The factor before the sum over classes of the margin loss."""
        return self.loss.scale / (self.classes if self.loss.class_mean else 1)

    def tensors(self) -> dict[str, Tensor]:
        """Name -> Tensor for every parameter, in the order of execution."""
        init, rows = self.init, {}

        def pair(name: str, axes: str, shape: tuple[int, ...], std: float) -> None:
            rows[f"{name}.kernel"] = Tensor(axes, shape, std, 0.0)
            rows[f"{name}.bias"] = Tensor("out", shape[-1:], 0.0, init.bias)

        channels = self.image[2]
        for n, conv in enumerate(self.stem):
            shape = (conv.kernel, conv.kernel, channels, conv.channels)
            pair(f"stem.{n}", "kh kw in out", shape, init.stem)
            channels = conv.channels
        first = self.primary
        shape = (first.kernel, first.kernel, channels, first.channels)
        pair("primary", "kh kw in out", shape, init.primary)
        sizes = {"i": self.num_inputs, "j": self.classes, "k": first.size, "d": self.pose}
        rows["digit.kernel"] = Tensor("i j k d", tuple(sizes.values()), init.digit, 0.0)
        for name, owned in self.routing.owned.items():
            value = init.bias if owned.value is None else owned.value
            rows[f"digit.{name}"] = Tensor(owned.axes, owned.shape(sizes), owned.std, value)
        if self.decoder is not None:
            width = self.classes * self.pose
            for n, out in enumerate((*self.decoder, self.num_pixels)):
                pair(f"decoder.{n}", "in out", (width, out), init.decoder)
                width = out
        return rows
