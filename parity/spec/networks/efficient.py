"""Efficient-CapsNet, of any size, and its rows of the table of weights.

Mazzia, Salvetti, Chiaberge, "Efficient-CapsNet: capsule network with self-attention routing"
(2021); where the paper is silent, its authors' code (EscVM/Efficient-CapsNet).
"""

import math
from dataclasses import dataclass

from parity.spec.checks import FROM_ZERO, check, check_count, normalise, require
from parity.spec.layers import Conv, Depthwise, Norm, Pixels, Tensor, Upsampling
from parity.spec.losses import Loss
from parity.spec.networks.network import NetworkSpec
from parity.spec.routings import Routing

# The deviation of a standard normal that is cut at two: Keras divides by it before the cut.
_CUT = 0.87962566103423978


def drawn(fans: float) -> float:
    """The deviation before the cut of a draw whose own is sqrt(2 / fans)."""
    return math.sqrt(2 / fans) / _CUT


@dataclass(frozen=True)
class Efficient(NetworkSpec):
    """Efficient-CapsNet: a normalised stem, depthwise first capsules, routing without iterations.

    Attributes:
        pixels: What becomes of an image before the stem.
        norm: The normalisation after each convolution of the stem, and where it stands.
        slope: Of the stem's activation below 0: 0 is relu, 1 is none, between them leaky relu.
        decoder: Widths of hidden dense layers, or None; with `upsampling` of all dense layers, the
            last of them a square number and without activation.
        upsampling: What follows the dense layers, None for one more of them, to the pixels.
        length_epsilon: Added under the root of a class capsule's length.
    """

    network: str = "efficient"
    image: tuple[int, int, int] = (28, 28, 1)
    pixels: Pixels = Pixels()
    stem: tuple[Conv, ...] = (Conv(32, 5), Conv(64, 3), Conv(64, 3), Conv(128, 3, 2))
    norm: Norm = Norm()
    slope: float = 0.0
    primary: Depthwise = Depthwise()
    classes: int = 10
    pose: int = 16
    routing: Routing = Routing("self_attention")
    decoder: tuple[int, ...] | None = (512, 1024)
    upsampling: Upsampling | None = None
    length_epsilon: float = 1e-7
    loss: Loss = Loss()

    def __post_init__(self) -> None:
        normalise(self)
        self.check()
        self.pixels.fit(self.image[2])
        check("network", FROM_ZERO, slope=self.slope, length_epsilon=self.length_epsilon)
        require(
            self.width == self.primary.channels,
            f"primary: {self.primary.types} types of {self.primary.size} have a filter for each of "
            f"{self.primary.channels} channels, the stem makes {self.width}; use as many",
        )
        if self.upsampling is not None:
            self._check_upsampling(self.upsampling)

    def _check_upsampling(self, upsampling: Upsampling) -> None:
        require(bool(self.decoder), "upsampling: needs dense layers before it; give the decoder")
        last, made = (self.decoder or (0,))[-1], upsampling.side(self.side)
        require(
            (self.side**2, made, made) == (last, *self.image[:2]),
            f"upsampling: {last} numbers of the last dense layer become an image of {made}x{made}, "
            f"the network's is {self.image[0]}x{self.image[1]}; use a square number that fits",
        )

    @property
    def side(self) -> int:
        """Height and width of what the dense layers give to the upsampling."""
        return math.isqrt((self.decoder or (0,))[-1])

    def check_batch(self, images: int) -> None:
        """Raises SpecError where a norm has no variance in a training batch of so many images."""
        if self.norm.kind == "batch":
            for sizes in self.convolutions().values():
                check_count(images * math.prod(sizes.places))

    def rectified(self) -> tuple[str, ...]:
        """The taps whose numbers a relu takes, leaky or not."""
        what = "norm" if self.norm.first else "conv"
        return tuple(f"stem.{n}.{what}" for n in range(len(self.stem) if self.slope < 1 else 0))

    def tensors(self) -> dict[str, Tensor]:
        """Name -> Tensor for every parameter and all state, in the order of execution.

        First weights are those of the authors' code: normals cut at two deviations, the depthwise
        kernel uniform with a fan-out that counts all channels (Keras' default).
        """
        rows: dict[str, Tensor] = {}
        channels = self.image[2]
        for n, conv in enumerate(self.stem):
            shape = (conv.kernel, conv.kernel, channels, conv.channels)
            std = drawn(math.prod(shape[:3]))
            rows[f"stem.{n}.kernel"] = Tensor("kh kw in out", shape, std, 0.0)
            rows[f"stem.{n}.bias"] = Tensor("out", shape[-1:], 0.0, 0.0, free=self.norm.frees)
            rows |= self.norm.rows(f"stem.{n}.norm", conv.channels)
            channels = conv.channels
        first = self.primary
        places = first.kernel * first.kernel
        bound = math.sqrt(6 / (places + places * channels))
        shape = (first.kernel, first.kernel, channels)
        rows["primary.kernel"] = Tensor("kh kw out", shape, 0.0, 0.0, bound)
        rows["primary.bias"] = Tensor("out", (channels,), 0.0, 0.0)
        # Keras takes all axes but the last two of I J K D for the kernel's places.
        fan_in = self.num_inputs * self.classes * first.size
        rows |= self.digit(drawn(fan_in), 0.0)
        return rows | self._decoder_rows()

    def _decoder_rows(self) -> dict[str, Tensor]:
        if self.decoder is None:
            return {}
        width, shapes = self.classes * self.pose, []
        outputs = self.decoder if self.upsampling else (*self.decoder, self.num_pixels)
        for out in outputs:
            shapes.append(("in out", (width, out)))
            width = out
        if self.upsampling is not None:
            size, width = self.upsampling.kernel, 1
            for out in (*self.upsampling.channels, self.image[2]):
                shapes.append(("kh kw in out", (size, size, width, out)))
                width = out
        rows: dict[str, Tensor] = {}
        for n, (axes, shape) in enumerate(shapes):
            fan_in, fan_out = math.prod(shape[:-1]), math.prod(shape[:-2]) * shape[-1]
            # The last layer's draw looks at both sides (Glorot), all others' at their input (He).
            last = n == len(shapes) - 1
            std = drawn(fan_in + fan_out if last else fan_in)
            rows[f"decoder.{n}.kernel"] = Tensor(axes, shape, std, 0.0)
            rows[f"decoder.{n}.bias"] = Tensor("out", shape[-1:], 0.0, 0.0)
        return rows
