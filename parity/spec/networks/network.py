"""What every network is, and the numbers that follow from its sizes."""

import dataclasses
import math
import typing
from collections.abc import Iterator
from typing import Any, ClassVar, Self

from parity.spec.checks import COUNT, check, require
from parity.spec.convolution import Sizes
from parity.spec.layers import CapsuleLayer, Conv, Depthwise, Primary, Tensor, Window
from parity.spec.losses import Loss
from parity.spec.routings import Routing


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
    capsules: tuple[CapsuleLayer, ...] = ()  # between the first ones and the classes
    padded: bool = False  # whether each of them has zeros around its grid, half a kernel wide
    classes: int
    pose: int
    routing: Routing
    gives: tuple[str, ...] = ()  # what a routing has of its layers, beside votes
    decoder: tuple[int, ...] | None
    upsampling: Any = None  # Upsampling or Transposed: what follows the decoder's dense layers
    length_epsilon: float = 0.0  # under the root of a class capsule's length
    length_offset: float = 0.0  # added to each number of its pose before
    ranks: str = "lengths"  # what accuracy ranks of the class capsules, or their "activations"
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
        check("network", COUNT, classes=self.classes)
        if "pose" in {field.name for field in dataclasses.fields(self)}:  # else they have none
            check("network", COUNT, pose=self.pose)
        self._check_ranks()
        check("decoder", COUNT, **{f"width {i}": n for i, n in enumerate(self.decoder or ())})
        for name, conv, sizes in self._convolutions():
            kernel, (rows, columns) = conv.kernel, sizes.image
            require(
                kernel <= min(rows, columns),
                f"{name}: a kernel of {kernel}x{kernel} (stride {conv.stride}) is larger than its "
                f"input of {rows}x{columns}; use a smaller kernel or a larger image than "
                f"{height}x{width}",
            )
        for n, window in enumerate(self.windows):
            (rows, columns), (height, width) = window.kernel, window.grid
            require(
                rows <= height and columns <= width,
                f"capsules {n}: a window of {rows}x{columns} is larger than its grid of "
                f"{height}x{width}; use a smaller kernel or a larger image",
            )

    def _check_ranks(self) -> None:
        """Refuses a routing or a loss of capsules of another kind."""
        takes, gives = (("votes", *names) for names in (self.routing.takes, self.gives))
        require(
            set(takes) == set(gives),
            f"routing {self.routing.name} takes {', '.join(takes)}; network {self.network} has "
            f"{', '.join(gives)} to give; use another routing",
        )
        active = self.ranks == "activations"
        kind = self.loss.kind
        require(
            (kind != "margin") == active,
            f"loss: kind is {kind!r}, of {'lengths' if active else 'activations'}; network "
            f"{self.network} has {self.ranks} to rank",
        )

    def _convolutions(self) -> Iterator[tuple[str, Conv | Primary | Depthwise, Sizes]]:
        """The stem's convolutions and the primary layer's, with sizes, in order.

        The image in the sizes is that with its padding.
        """
        image, channels = self.image[:2], self.image[2]
        named: dict[str, Conv | Primary | Depthwise] = {
            f"stem.{n}": conv for n, conv in enumerate(self.stem)
        }
        for name, conv in (named | {"primary": self.primary}).items():
            kernel = conv.kernel, conv.kernel
            sizes = Sizes(image, kernel, conv.stride, channels, conv.channels)
            yield name, conv, sizes
            image, channels = sizes.places, conv.channels

    @property
    def width(self) -> int:
        """Channels of the stem's feature map."""
        return self.stem[-1].channels if self.stem else self.image[2]

    def check_batch(self, images: int) -> None:
        """Raises SpecError where a norm has no variance in a training batch of so many images."""

    def rectified(self) -> tuple[str, ...]:
        """The taps whose numbers a relu takes or makes: above 0 they pass, else not."""
        return tuple(f"stem.{n}" for n in range(len(self.stem)))

    def convolutions(self) -> dict[str, Sizes]:
        """The sizes of each convolution over all channels, by the name of its layer."""
        layers = self._convolutions()
        return {name: sizes for name, conv, sizes in layers if not isinstance(conv, Depthwise)}

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the grid of primary capsules."""
        *_, (_, _, last) = self._convolutions()
        return last.places

    @property
    def windows(self) -> tuple[Window, ...]:
        """Of each capsule layer, on its padded grid; the last, of the classes, holds all of it."""
        grid, windows = self.grid, []
        for layer in self.capsules:
            around = layer.kernel // 2 if self.padded else 0
            height, width = (size + 2 * around for size in grid)
            windows.append(Window((height, width), (layer.kernel, layer.kernel), layer.stride))
            grid = windows[-1].places
        return (*windows, Window(grid, grid))

    @property
    def senders(self) -> tuple[int, int, int]:
        """Height and width of the grid that the class capsules see, and types at each place."""
        last = self.capsules[-1] if self.capsules else self.primary
        return (*self.windows[-1].grid, last.types)

    @property
    def ranked(self) -> str:
        """What accuracy ranks, of one capsule: "length" or "activation"."""
        return self.ranks.removesuffix("s")

    @property
    def cells(self) -> tuple[float, int]:
        """The grid of the senders over the image, in pixels: its upper left edge, a cell's side.

        A cell is as wide as the step between neighbours, around the middle of what its capsules
        see.
        """
        middle, step = 0.0, 1
        for layer in (*self.stem, self.primary, *self.capsules):
            middle += (layer.kernel - 1) / 2 * step
            step *= layer.stride
        return middle - step / 2, step

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
