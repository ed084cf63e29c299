"""The network of 2017, of any size, and its rows of the table of weights.

Sabour, Frosst, Hinton, "Dynamic Routing Between Capsules" (2017), figures 1 and 2.
"""

from dataclasses import dataclass, field

from parity.spec.checks import FINITE, FROM_ZERO, check, fields, normalise
from parity.spec.layers import Conv, Primary, Tensor
from parity.spec.losses import Loss
from parity.spec.networks.network import NetworkSpec
from parity.spec.plain import LATER
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


@dataclass(frozen=True)
class Sabour2017(NetworkSpec):
    """The network of 2017, of any size; NetworkSpec(...) is one.

    Attributes:
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
    network: str = field(default="sabour2017", metadata=LATER)

    def __post_init__(self) -> None:
        normalise(self)
        self.check()

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
        rows |= self.digit(init.digit, init.bias)
        if self.decoder is not None:
            width = self.classes * self.pose
            for n, out in enumerate((*self.decoder, self.num_pixels)):
                pair(f"decoder.{n}", "in out", (width, out), init.decoder)
                width = out
        return rows
