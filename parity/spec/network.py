"""What a network is, of any size, and the table of routings."""

import math
import typing
from dataclasses import dataclass

from parity.spec.checks import COUNT, FINITE, FROM_ZERO, POSITIVE, check, fields, require

# One row a routing algorithm: its name is a function in each `routing.py` and in the oracle.
ROUTINGS = {
    "dynamic": "Sabour, Frosst, Hinton 2017, procedure 1 (routing by agreement)",
}


@dataclass(frozen=True)
class Conv:
    """A square convolution without padding, followed by relu: the stem is a tuple of these."""

    channels: int
    kernel: int
    stride: int = 1

    def __post_init__(self) -> None:
        check("stem", COUNT, **vars(self))


@dataclass(frozen=True)
class Primary:
    """The convolution that makes the first capsules: `types` of them, `size` long, at each place.

    `scale` multiplies the convolution before its bias is added. It is 1 in the paper; the
    authors' code divides by the number of types (one more with leaky routing).
    """

    types: int = 32
    size: int = 8
    kernel: int = 9
    stride: int = 2
    scale: float = 1.0

    def __post_init__(self) -> None:
        check("primary", COUNT, **fields(self, "types size kernel stride"))
        check("primary", POSITIVE, scale=self.scale)

    @property
    def channels(self) -> int:
        """Output channels of the convolution: channel = type * size + component."""
        return self.types * self.size


@dataclass(frozen=True)
class Routing:
    """A routing algorithm of `ROUTINGS` and its options."""

    name: str = "dynamic"
    num_iters: int = 3
    bias: bool = False
    leaky: bool = False
    detach: bool = False

    def __post_init__(self) -> None:
        require(
            self.name in ROUTINGS,
            f"routing {self.name!r} is unknown; expected one of {', '.join(ROUTINGS)}",
        )
        check("routing", COUNT, num_iters=self.num_iters)


@dataclass(frozen=True)
class Loss:
    """Margin loss (Eq. 4 of the paper) plus `reconstruction` times the sum of squared errors.

    With `class_mean`, the margin loss is also divided by the number of classes: the authors'
    code, with a `scale` of 0.5, is the paper's loss over 20 for ten classes.
    """

    positive: float = 0.9
    negative: float = 0.1
    down_weight: float = 0.5
    scale: float = 1.0
    class_mean: bool = False
    reconstruction: float = 0.0005

    def __post_init__(self) -> None:
        numbers = fields(self, "positive negative down_weight scale reconstruction")
        check("loss", FROM_ZERO, **numbers)


@dataclass(frozen=True)
class Init:
    """First weights: standard deviation of a normal cut at two of them, and the biases' value."""

    stem: float = 0.05
    primary: float = 0.05
    digit: float = 0.1
    decoder: float = 0.1
    bias: float = 0.0

    def __post_init__(self) -> None:
        check("init", FROM_ZERO, **fields(self, "stem primary digit decoder"))
        check("init", FINITE, bias=self.bias)


@dataclass(frozen=True)
class NetworkSpec:
    """A capsule network of any size; `preset` has named ones, `dataclasses.replace` varies them.

    image    height, width, channels of the input, pixels in [0, 1]
    classes  J, one output capsule each
    pose     D, length of an output capsule's pose
    decoder  widths of the hidden layers, or None for a network that reconstructs nothing
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
        require(
            len(self.image) == 3, f"image is {self.image!r}; expected (height, width, channels)"
        )
        height, width, channels = self.image
        check("image", COUNT, height=height, width=width, channels=channels)
        check("network", COUNT, classes=self.classes, pose=self.pose)
        check("decoder", COUNT, **{f"width {i}": n for i, n in enumerate(self.decoder or ())})
        for name, (kernel, stride), (height, width) in self._convolutions():
            require(
                kernel <= min(height, width),
                f"{name}: a kernel of {kernel}x{kernel} (stride {stride}) is larger than its "
                f"input of {height}x{width}; use a smaller kernel or a larger image than "
                f"{self.image[0]}x{self.image[1]}",
            )

    def _convolutions(self) -> typing.Iterator[tuple[str, tuple[int, int], tuple[int, int]]]:
        height, width = self.image[:2]
        layers: list[tuple[str, Conv | Primary]] = [
            *((f"stem.{n}", conv) for n, conv in enumerate(self.stem)),
            ("primary", self.primary),
        ]
        for name, conv in layers:
            yield name, (conv.kernel, conv.stride), (height, width)
            height = (height - conv.kernel) // conv.stride + 1
            width = (width - conv.kernel) // conv.stride + 1

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the grid of primary capsules."""
        *_, (_, (kernel, stride), (height, width)) = self._convolutions()
        return (height - kernel) // stride + 1, (width - kernel) // stride + 1

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
