"""The parts of networks: tensors, convolutions, the first capsules."""

from dataclasses import dataclass

from parity.spec.checks import COUNT, POSITIVE, check, fields, normalise


@dataclass(frozen=True)
class Tensor:
    """One row of a network's table of weights.

    Attributes:
        axes: Their names in canonical order, apart by spaces.
        shape: Their sizes.
        std: Of the first draw, a normal cut at two of them; 0 for a constant.
        value: That constant.
    """

    axes: str
    shape: tuple[int, ...]
    std: float
    value: float


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
