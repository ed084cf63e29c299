"""DeepCaps, of any size, and its rows of the table of weights.

Rajasegaran, Jayasundara, Jayasekara, Jayasekara, Seneviratne, Rodrigo, "DeepCaps: Going Deeper
with Capsule Networks" (CVPR 2019); where the paper is silent, its authors' code (brjathu/deepcaps).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from parity.spec.checks import FROM_ZERO, check, check_count, normalise, require
from parity.spec.convolution import Sizes, same_padding
from parity.spec.layers import CapsuleLayer, Conv, Norm, Primary, Tensor, Transposed, Window
from parity.spec.losses import Loss
from parity.spec.networks.efficient import drawn
from parity.spec.networks.network import NetworkSpec
from parity.spec.routings import Routing


@dataclass(frozen=True)
class Rajasegaran2019(NetworkSpec):
    """DeepCaps: a stem, residual cells of capsules, classes that see the last two of them.

    Every convolution has TensorFlow's padding 'same'. The decoder is given the pose of one class
    and not told which.

    Attributes:
        stem: Convolutions with bias, each followed by relu and a normalisation.
        norm: That normalisation.
        capsules: Cells, each four layers of convolutional capsules; the stride is the first one's.
        skip: The routing of the last cell's skip connection; in the others it is a convolution.
        decoder: Widths of dense layers with relu, or None; the last is a feature map.
        upsampling: What follows them.
        length_offset: Added to each number of a class capsule's pose before its length.
    """

    network: str = "deepcaps"
    image: tuple[int, int, int] = (64, 64, 3)
    stem: tuple[Conv, ...] = (Conv(128, 3),)
    norm: Norm = Norm()
    capsules: tuple[CapsuleLayer, ...] = (
        CapsuleLayer(32, 4, stride=2),
        *(CapsuleLayer(32, 8, stride=2),) * 3,
    )
    skip: Routing = Routing("dynamic_3d", bias=True)
    classes: int = 10
    pose: int = 32
    routing: Routing = Routing(bias=True)
    decoder: tuple[int, ...] | None = (1024,)
    upsampling: Transposed = Transposed()
    length_offset: float = 1e-7
    loss: Loss = Loss(reconstruction=0.4 / (64 * 64 * 3))

    def __post_init__(self) -> None:
        normalise(self)
        count = len(self.capsules)
        require(count >= 2, f"capsules: {count} cells; expected at least 2, both seen by classes")
        last, before = self.capsules[-1], self.capsules[-2]
        require(
            (last.types, last.size) == (before.types, before.size),
            f"capsules: the last cell has {last.types} types of {last.size}, the one before it "
            f"{before.types} of {before.size}; expected as many and as large, as classes see both",
        )
        require(
            self.skip.places,
            f"skip: routing {self.skip.name} has no places to route to; use dynamic_3d",
        )
        self.check()
        check("network", FROM_ZERO, length_offset=self.length_offset)
        if self.decoder is not None:
            self._check_decoder(self.decoder)

    def _check_decoder(self, decoder: tuple[int, ...]) -> None:
        require(bool(decoder), "upsampling: needs dense layers before it; give the decoder")
        height, width = self.image[:2]
        scale, (rows, columns) = self.upsampling.scale, self.side
        require(
            (rows * scale, columns * scale) == (height, width),
            f"upsampling: strides make a map {scale} times as large; expected one that divides the "
            f"image's {height}x{width}",
        )
        require(
            decoder[-1] % (rows * columns) == 0,
            f"decoder: {decoder[-1]} numbers of the last dense layer become a map of "
            f"{rows}x{columns}; expected a multiple of {rows * columns}",
        )

    @property
    def side(self) -> tuple[int, int]:
        """Height and width of the map that the dense layers give."""
        return self.image[0] // self.upsampling.scale, self.image[1] // self.upsampling.scale

    @property
    def depth(self) -> int:
        """Channels of that map."""
        return (self.decoder or (0,))[-1] // math.prod(self.side)

    @property
    def primary(self) -> Primary:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The capsules that the classes see: those of the last cells."""
        last = self.capsules[-1]
        return Primary(last.types, last.size, last.kernel, last.stride)

    def _convolutions(self) -> Iterator[tuple[str, Conv | Primary, Sizes]]:
        """Every convolution with its sizes, of images with their padding, in order."""
        grid, channels = self.image[:2], self.image[2]
        for n, conv in enumerate(self.stem):
            sizes = _padded(grid, conv.kernel, conv.stride, channels, conv.channels)
            yield f"stem.{n}", conv, sizes
            grid, channels = sizes.places, conv.channels
        for n, cell in enumerate(self.capsules):
            out, kernel = cell.types * cell.size, cell.kernel
            names = ["caps.0", "skip", "caps.1", "caps.2"]
            if n == len(self.capsules) - 1:
                names.remove("skip")  # a routing, whose votes are made for each child apart
            for name in names:
                stride = cell.stride if name == "caps.0" else 1
                sizes = _padded(grid, kernel, stride, channels, out)
                yield f"cell.{n}.{name}", Conv(out, kernel, stride), sizes
                grid, channels = sizes.places, out

    @property
    def grids(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each cell's grid."""
        return tuple(
            sizes.places for name, _, sizes in self._convolutions() if name.endswith("caps.0")
        )

    @property
    def grid(self) -> tuple[int, int]:
        """Places that the classes see, in a row: those of the last cell, then of the one before."""
        return sum(map(math.prod, self.grids[-2:])), 1

    @property
    def windows(self) -> tuple[Window, ...]:
        """Of the classes, which see all places."""
        return (Window(self.grid, self.grid),)

    @property
    def senders(self) -> tuple[int, int, int]:
        """Height and width of the finer grid that the classes see, and types at each place."""
        return (*self.grids[-2], self.primary.types)

    @property
    def cells(self) -> tuple[float, int]:
        """That grid over the image, in pixels: its upper left edge, a cell's side."""
        middle, step, size = 0.0, 1, self.image[0]
        for layer in (*self.stem, *self.capsules[:-1]):
            before, _ = same_padding(size, layer.kernel, layer.stride)
            middle += ((layer.kernel - 1) / 2 - before) * step
            step, size = step * layer.stride, -(-size // layer.stride)
        return middle - step / 2, step

    def check_batch(self, images: int) -> None:
        """Raises SpecError where a norm has no variance in a training batch of so many images."""
        norms = [(self.norm, sizes.places) for sizes in self.convolutions().values()]
        norms = norms[: len(self.stem)]
        if self.decoder is not None:
            norms.append((self.upsampling.norm, self.side))
        for norm, places in norms:
            if norm.kind == "batch":
                check_count(images * math.prod(places))

    def rectified(self) -> tuple[str, ...]:
        """The taps that a relu takes or makes, as those of every network."""
        what = "norm" if self.norm.first else "conv"
        names = [f"stem.{n}.{what}" for n in range(len(self.stem))]
        if self.decoder is not None:
            names += [*(f"decoder.{n}" for n in range(len(self.decoder))), "reconstruction"]
        return tuple(names)

    def tensors(self) -> dict[str, Tensor]:
        """Name -> Tensor for every parameter and all state, in the order of execution.

        First weights are those of the authors' code: Keras' defaults of the shapes it gives them.
        """
        rows: dict[str, Tensor] = {}
        for name, conv, sizes in self._convolutions():
            shape = (*sizes.kernel, sizes.channels, conv.channels)
            if name.startswith("stem"):
                rows[f"{name}.kernel"] = _glorot("kh kw in out", shape)
                rows[f"{name}.bias"] = Tensor("out", shape[-1:], 0.0, 0.0, free=self.norm.frees)
                rows |= self.norm.rows(f"{name}.norm", conv.channels)
                continue
            # Of a shape of six axes Keras takes the root of all numbers for both fans.
            bound = math.sqrt(3 / math.sqrt(math.prod(shape)))
            rows[f"{name}.kernel"] = Tensor("kh kw in out", shape, 0.0, 0.0, bound)
            if name == f"cell.{len(self.capsules) - 1}.caps.0":
                rows |= self._skip()
        inputs, size = self.num_inputs, self.primary.size
        shape = (inputs, self.classes, size, self.pose)
        bound = math.sqrt(6 / (inputs * self.classes * (size + self.pose)))
        rows["digit.kernel"] = Tensor("i j k d", shape, 0.0, 0.0, bound)
        owned = self.digit(0.0, 0.0)
        del owned["digit.kernel"]
        if "digit.bias" in owned:
            owned["digit.bias"] = _glorot("j d", (self.classes, self.pose))
        return rows | owned | self._decoder_rows()

    def _skip(self) -> dict[str, Tensor]:
        """The rows of the last cell's routing: a kernel that all its children share."""
        last, name = self.capsules[-1], f"cell.{len(self.capsules) - 1}.skip"
        sizes = {"j": last.types, "d": last.size}
        shape = (last.kernel, last.kernel, last.size, last.types * last.size)
        std = drawn(math.prod(shape[:3]))
        rows = {f"{name}.kernel": Tensor("kh kw in out", shape, std, 0.0)}
        for own, owned in self.skip.owned.items():
            value = 0.1 if owned.value is None else owned.value
            rows[f"{name}.{own}"] = Tensor(owned.axes, owned.shape(sizes), owned.std, value)
        return rows

    def _decoder_rows(self) -> dict[str, Tensor]:
        if self.decoder is None:
            return {}
        up, width, rows = self.upsampling, self.pose, {}
        for n, out in enumerate(self.decoder):
            rows[f"decoder.{n}.kernel"] = _glorot("in out", (width, out))
            rows[f"decoder.{n}.bias"] = Tensor("out", (out,), 0.0, 0.0)
            width = out
        rows |= up.norm.rows(f"decoder.{len(self.decoder) - 1}.norm", self.depth)
        width = self.depth
        for n, out in enumerate((*up.channels, self.image[2]), len(self.decoder)):
            shape = (up.kernel, up.kernel, width, out)
            rows[f"decoder.{n}.kernel"] = _glorot("kh kw in out", shape)
            rows[f"decoder.{n}.bias"] = Tensor("out", (out,), 0.0, 0.0)
            width = out
        return rows


def _glorot(axes: str, shape: tuple[int, ...]) -> Tensor:
    """A row drawn uniformly by both fans (Glorot, Bengio 2010)."""
    places = math.prod(shape[:-2])
    return Tensor(axes, shape, 0.0, 0.0, math.sqrt(6 / (places * (shape[-2] + shape[-1]))))


def _padded(grid: tuple[int, int], kernel: int, stride: int, channels: int, out: int) -> Sizes:
    height, width = (size + sum(same_padding(size, kernel, stride)) for size in grid)
    return Sizes((height, width), (kernel, kernel), stride, channels, out)
