"""What every network is, and the numbers that follow from its sizes."""

import math
import typing
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, Self

from parity.spec.checks import COUNT, check, require
from parity.spec.layers import Conv, Depthwise, Primary, Tensor
from parity.spec.losses import Loss
from parity.spec.routings import Routing


class _Sized(NamedTuple):
    """A convolution of the network and the size of the feature map that it reads."""

    name: str
    conv: Conv | Primary | Depthwise
    height: int
    width: int

    @property
    def output(self) -> tuple[int, int]:
        """Height and width of the feature map that it makes, without padding."""
        kernel, stride = self.conv.kernel, self.conv.stride
        return (self.height - kernel) // stride + 1, (self.width - kernel) // stride + 1


class NetworkSpec:
    """A capsule network of any size; `preset` has named ones, `dataclasses.replace` varies them.

    A stem of convolutions, a layer of first capsules, votes and a routing, a decoder. Each paper's
    network is a frozen dataclass of its own (`NETWORKS`), and NetworkSpec(...) that of 2017.

    Attributes:
        network: Its name in `NETWORKS`.
        image: Height, width, channels of the input, pixels in [0, 1].
        classes: J, one output capsule each.
        pose: D, length of an output capsule's pose.
        decoder: Widths of dense layers, or None for a network that reconstructs nothing.
    """

    TAG: ClassVar[str] = "network"
    __dataclass_fields__: ClassVar[dict[str, Any]]  # `replace` takes any of them
    network: str
    image: tuple[int, int, int]
    stem: tuple[Conv, ...]
    primary: Any  # Primary or Depthwise
    classes: int
    pose: int
    routing: Routing
    decoder: tuple[int, ...] | None
    length_epsilon: float = 0.0  # under the root of a class capsule's length
    loss: Loss

    def __new__(cls, *fields: Any, **named: Any) -> Self:
        """A spec of the kind that `network` names; raises SpecError with the known names."""
        kind = cls.kind(named.get("network")) if cls is NetworkSpec else cls
        return typing.cast(Self, object.__new__(kind))

    @staticmethod
    def kind(name: Any) -> "type[NetworkSpec]":
        """The dataclass of a network's name, that of 2017 for None; raises SpecError."""
        from parity.spec.networks import NETWORKS  # a table of the classes that are made of this

        name = "sabour2017" if name is None else name
        known = ", ".join(NETWORKS)
        fits = isinstance(name, str) and name in NETWORKS
        require(fits, f"network {name!r} is unknown; expected one of {known}")
        return NETWORKS[name]

    def tensors(self) -> dict[str, Tensor]:
        """Name -> Tensor for every parameter and all state, in the order of execution."""
        raise NotImplementedError

    def check(self) -> None:
        """Raises SpecError for sizes that cannot be built."""
        kind = self.kind(self.network)
        require(isinstance(self, kind), f"network is {self.network!r}; use NetworkSpec(network=)")
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
        named: dict[str, Conv | Primary | Depthwise] = {
            f"stem.{n}": conv for n, conv in enumerate(self.stem)
        }
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

    def digit(self, std: float, bias: float) -> dict[str, Tensor]:
        """The rows of the class capsules: the kernel of votes, and what the routing owns.

        Args:
            std: Of the kernel's first draw.
            bias: The network's own first value of biases.
        """
        sizes = {"i": self.num_inputs, "j": self.classes, "k": self.primary.size, "d": self.pose}
        rows = {"digit.kernel": Tensor("i j k d", tuple(sizes.values()), std, 0.0)}
        for name, owned in self.routing.owned.items():
            value = bias if owned.value is None else owned.value
            rows[f"digit.{name}"] = Tensor(owned.axes, owned.shape(sizes), owned.std, value)
        return rows
