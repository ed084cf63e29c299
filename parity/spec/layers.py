"""The parts of networks: tensors, convolutions, the first capsules."""

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

from parity.spec.checks import (
    COUNT,
    FINITE,
    FROM_ZERO,
    POSITIVE,
    check,
    fields,
    normalise,
    require,
)
from parity.spec.plain import LATER

Free = Literal["", "training", "always"]


@dataclass(frozen=True)
class Tensor:
    """One row of a network's table of weights.

    Attributes:
        axes: Their names in canonical order, apart by spaces.
        shape: Their sizes.
        std: Of the first draw, a normal cut at two of them; 0 for a constant.
        value: That constant.
        bound: Above 0 the first draw is uniform within plus and minus this instead.
        trained: Whether an optimiser moves it; otherwise it is state, a running number that a
            training step gives a new value.
        free: When its gradient is 0 by construction, so that what is left of it in a program is
            rounding: in training, as that of a bias before a batch norm is, or always; never if "".
        whole: Whether the normal of the first draw is not cut.
    """

    axes: str
    shape: tuple[int, ...]
    std: float
    value: float
    bound: float = 0.0
    trained: bool = True
    free: Free = ""
    whole: bool = False


@dataclass(frozen=True)
class Conv:
    """A square convolution without padding, then relu; several make the stem."""

    channels: int
    kernel: int
    stride: int = 1

    def __post_init__(self) -> None:
        normalise(self)
        check("stem", COUNT, **vars(self))


@dataclass(frozen=True)
class Primary:
    """The convolution of the first capsules: `types` at each place, `size` long.

    `scale` multiplies the convolution before its bias is added. It is 1 in the paper; the
    authors' code divides by the number of types (one more with leaky routing).
    """

    types: int = 32
    size: int = 8
    kernel: int = 9
    stride: int = 2
    scale: float = 1.0

    def __post_init__(self) -> None:
        normalise(self)
        check("primary", COUNT, **fields(self, "types size kernel stride"))
        check("primary", POSITIVE, scale=self.scale)

    @property
    def channels(self) -> int:
        """Output channels of the convolution: channel = type * size + component."""
        return self.types * self.size


class Window(NamedTuple):
    """The windows of a grid of capsules, without padding: the children of each parent place.

    A child in no window, as a stride may leave some, has no parent and sends nothing.

    Attributes:
        grid: Height and width of the children's grid.
        kernel: Height and width of a window.
        stride: Places from one window to the next, in both directions.
    """

    grid: tuple[int, int]
    kernel: tuple[int, int]
    stride: int = 1

    @property
    def places(self) -> tuple[int, int]:
        """Height and width of the parents' grid."""
        height, width = (
            (size - taps) // self.stride + 1
            for size, taps in zip(self.grid, self.kernel, strict=True)
        )
        return height, width

    @property
    def left_out(self) -> int:
        """Child places that lie in no window."""
        covered = (
            len({place * self.stride + tap for place in range(places) for tap in range(taps)})
            for places, taps in zip(self.places, self.kernel, strict=True)
        )
        return math.prod(self.grid) - math.prod(covered)


@dataclass(frozen=True)
class CapsuleLayer:
    """Capsules between the first and the classes: votes of the children of a window.

    Attributes:
        types: Capsules at each place.
        size: Length of a pose.
        kernel: Height and width of a window.
        stride: Places from one window to the next.
    """

    types: int = 32
    size: int = 16
    kernel: int = 3
    stride: int = 1

    def __post_init__(self) -> None:
        normalise(self)
        check("capsules", COUNT, **vars(self))


@dataclass(frozen=True)
class Block:
    """Two convolutions of 3x3 beside a shortcut (He et al. 2016, figure 2).

    Attributes:
        channels: Of both.
        stride: Of the first, and of the shortcut.
        projected: Whether the shortcut is a convolution of 1x1, normalised; otherwise it has no
            parameters, and zeros for channels that are missing.
    """

    channels: int
    stride: int = 1
    projected: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        normalise(self)
        check("block", COUNT, **fields(self, "channels stride"))


@dataclass(frozen=True)
class Depthwise:
    """The convolution that makes the first capsules, one filter for each channel.

    A channel is type * size + component, and no filter mixes two of them.
    """

    types: int = 16
    size: int = 8
    kernel: int = 9
    stride: int = 1

    def __post_init__(self) -> None:
        normalise(self)
        check("primary", COUNT, **vars(self))

    @property
    def channels(self) -> int:
        """Channels that it reads, and makes."""
        return self.types * self.size


NormKind = Literal["batch", "layer", "instance"]
NORMS: tuple[NormKind, ...] = get_args(NormKind)


@dataclass(frozen=True)
class Norm:
    """The normalisation of a convolution's result.

    Attributes:
        kind: batch (over images and places; evaluation takes running numbers), layer (over
            places and channels of an image), or instance (over places of an image).
        epsilon: Added to the variance under the root.
        keep: The share of a running number that a training step keeps.
        first: Whether it comes before the activation.
        bound: Scale and shift are first drawn uniformly within plus and minus this; None: 1 and 0.
    """

    kind: NormKind = "batch"
    epsilon: float = 1e-3
    keep: float = 0.99
    first: bool = False
    bound: float | None = None

    def __post_init__(self) -> None:
        normalise(self)
        known = ", ".join(NORMS)
        require(self.kind in NORMS, f"norm: kind is {self.kind!r}; expected one of {known}")
        check("norm", POSITIVE, epsilon=self.epsilon)
        check("norm", FROM_ZERO, keep=self.keep)
        require(self.keep < 1, f"norm: keep is {self.keep}; expected a number below 1")
        if self.bound is not None:
            check("norm", POSITIVE, bound=self.bound)

    @property
    def frees(self) -> Free:
        """When the gradient of a bias just before it is 0: it takes that away with the mean."""
        return "training" if self.first and self.kind != "layer" else ""

    def rows(self, name: str, width: int, affine: bool = True) -> dict[str, Tensor]:
        """Name -> Tensor of its scale, shift and, of a batch norm, running numbers.

        Args:
            name: Of the norm.
            width: Channels.
            affine: Whether it has a scale and a shift.
        """
        bound = self.bound or 0.0

        def row(value: float, bound: float = 0.0, trained: bool = True) -> Tensor:
            return Tensor("out", (width,), 0.0, value, bound, trained)

        rows = {}
        if affine:
            rows = {f"{name}.scale": row(1.0, bound), f"{name}.shift": row(0.0, bound)}
        if self.kind == "batch":
            rows[f"{name}.mean"] = row(0.0, trained=False)
            rows[f"{name}.variance"] = row(1.0, trained=False)
        return rows


@dataclass(frozen=True)
class Pixels:
    """A network's first layer: (image - mean) / deviation, of images in [0, 1].

    Attributes:
        mean: One number for all channels, or one for each.
        deviation: Alike; 256 / 255 where bytes are divided by 256.
        own: Whether each channel of an image is standardised by its own mean and deviation.
        joint: Whether by those of all its channels together, where `own` is.
    """

    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)
    own: bool = False
    joint: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        normalise(self)
        require(
            self.own or not self.joint,
            "pixels: joint is on and own is off; joint says how an image is standardised by its "
            "own numbers, so set own=True too",
        )
        check("pixels", FINITE, **{f"mean {n}": x for n, x in enumerate(self.mean)})
        check("pixels", POSITIVE, **{f"deviation {n}": x for n, x in enumerate(self.deviation)})

    def fit(self, channels: int) -> None:
        """Raises SpecError unless there is one number, or one for each channel."""
        for name in ("mean", "deviation"):
            count = len(getattr(self, name))
            require(
                count in (1, channels),
                f"pixels: {name} has {count} numbers; expected 1 or {channels}, one a channel",
            )


@dataclass(frozen=True)
class Upsampling:
    """The second half of a decoder: an image twice as large, then a convolution, again and again.

    It begins with the dense layers' numbers as a square of one channel. After `channels` comes one
    more convolution, to the image's channels.

    Attributes:
        channels: Of each convolution after a doubling by bilinear interpolation.
        kernel: Height and width of every kernel; nothing is padded.
        slope: Of the leaky relu after each convolution but the last, which has a sigmoid.
    """

    channels: tuple[int, ...] = (64, 128, 128)
    kernel: int = 3
    slope: float = 0.2

    def __post_init__(self) -> None:
        normalise(self)
        check("upsampling", COUNT, **{f"width {n}": x for n, x in enumerate(self.channels)})
        check("upsampling", COUNT, kernel=self.kernel)
        check("upsampling", FROM_ZERO, slope=self.slope)

    def side(self, side: int) -> int:
        """Height and width of the image that it makes from a square of this side."""
        for _ in self.channels:
            side = 2 * side - self.kernel + 1
        return side - self.kernel + 1


@dataclass(frozen=True)
class Transposed:
    """The second half of a decoder: transposed convolutions, then relu, none between them.

    It begins with the dense layers' numbers as a feature map, normalised.

    Attributes:
        channels: Of each convolution but the last, which makes the image's.
        strides: How many times as large each of them makes a map, the last one's too.
        kernel: Height and width of every kernel.
        norm: Of the map that the dense layers give.
    """

    channels: tuple[int, ...] = (64, 32, 16, 8)
    strides: tuple[int, ...] = (1, 2, 2, 2, 1)
    kernel: int = 3
    norm: Norm = Norm(keep=0.8)

    def __post_init__(self) -> None:
        normalise(self)
        check("upsampling", COUNT, **{f"width {n}": x for n, x in enumerate(self.channels)})
        check("upsampling", COUNT, **{f"stride {n}": x for n, x in enumerate(self.strides)})
        check("upsampling", COUNT, kernel=self.kernel)
        require(
            len(self.strides) == len(self.channels) + 1,
            f"upsampling: {len(self.channels)} widths and {len(self.strides)} strides; expected "
            "one stride more, that of the convolution to the image's channels",
        )
        require(
            max(self.strides) <= self.kernel,
            f"upsampling: a stride of {max(self.strides)} is larger than the kernel of "
            f"{self.kernel}; use a smaller one, or places would be left out",
        )

    @property
    def scale(self) -> int:
        """How many times as large the image is as the map it begins with."""
        return math.prod(self.strides)
