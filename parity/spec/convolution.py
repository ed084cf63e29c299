"""Which way a convolution is computed: directly, or by a small Fourier transform.

Both compute the same numbers up to rounding, so this is an option of a run and never of a network.
The choice looks at sizes alone, never at a clock: the same sizes always take the same way.

A stride s cuts an image and a kernel into s * s phases, every s-th row and column of each. The
convolution is the sum, over the phases, of convolutions of stride 1 (`parity.weights.fourier`).
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args

Method = Literal["auto", "direct", "fourier"]
METHODS: tuple[Method, ...] = get_args(Method)

# Points of the largest grid that is transformed: its matrices are of 3/2 by 1 times this size.
_LARGEST = 2048
# What moving a number of a spectrum costs, in multiplications, and the channels below which its
# products run at less than half their rate: fitted to ten measured layers of the presets, on a core
# with AVX-512, whose gains of 0.5 to 3.5 they give to 0.6 to 1.4 times.
_MOVED, _NARROW = 10, 64
# So below this estimate the direct form stays.
_GAIN = 1.5


class Phase(NamedTuple):
    """Every s-th row from `top` and column from `left`: the sizes of an image and a kernel."""

    top: int
    left: int
    area: tuple[int, int]
    taps: tuple[int, int]


class Sizes(NamedTuple):
    """The sizes of a convolution without padding, of an image of H by W pixels.

    Attributes:
        image: H and W.
        kernel: Its height and width.
        stride: Pixels, in both directions.
        channels: What it reads.
        out: Channels that it makes.
    """

    image: tuple[int, int]
    kernel: tuple[int, int]
    stride: int
    channels: int
    out: int

    @property
    def places(self) -> tuple[int, int]:
        """Height and width of the result."""
        height, width = (
            (size - taps) // self.stride + 1
            for size, taps in zip(self.image, self.kernel, strict=True)
        )
        return height, width

    @property
    def grid(self) -> tuple[int, int]:
        """Of the transform: the pixels of the largest phase that the result reads."""
        height, width = (
            places - 1 + -(-taps // self.stride)
            for places, taps in zip(self.places, self.kernel, strict=True)
        )
        return height, width

    @property
    def rows(self) -> int:
        """Real products that a spectrum takes: three a frequency, one where it is real."""
        real = math.prod(2 - size % 2 for size in self.grid)
        return 3 * (math.prod(self.grid) + real) // 2 - 2 * real

    @property
    def phases(self) -> list[Phase]:
        """Those that hold a tap; what no tap reads belongs to none."""
        found = []
        for top in range(self.stride):
            for left in range(self.stride):
                taps = tuple(
                    len(range(first, size, self.stride))
                    for first, size in zip((top, left), self.kernel, strict=True)
                )
                if all(taps):
                    area = tuple(p - 1 + t for p, t in zip(self.places, taps, strict=True))
                    found.append(Phase(top, left, area, taps))  # pyright: ignore[reportArgumentType]
        return found


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after `size` numbers, as TensorFlow's padding 'same' has them.

    The result has size / stride places, rounded up. Of an odd number of zeros the odd one comes
    after: kernel // 2 on either side would move an even size at stride 2 by a pixel.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def transposed_cut(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """First and last place of a transposed convolution's whole result that 'same' keeps.

    The whole has (size - 1) * stride + kernel places, and size * stride of them are kept; the
    kernel is at least as large as the stride.
    """
    first = (kernel - stride) // 2
    return first, first + size * stride


def by_fourier(method: Method, sizes: Sizes, batch: int) -> bool:
    """Whether a batch goes by the Fourier transform.

    Args:
        method: One of METHODS; "fourier" takes it wherever it can be, gain or not.
        sizes: Of the convolution.
        batch: Images of all processes that share a batch.
    """
    if method == "direct" or math.prod(sizes.grid) > _LARGEST:
        return False
    return method == "fourier" or gain(sizes, batch) >= _GAIN


def gain(sizes: Sizes, batch: int) -> float:
    """How many times less a training step costs by the Fourier transform, estimated.

    Multiplications forward and for both gradients, and numbers moved through memory.
    """
    taps, places, pairs = map(math.prod, (sizes.kernel, sizes.places, (sizes.channels, sizes.out)))
    direct = 3 * batch * places * taps * pairs
    phases, rows = sizes.phases, sizes.rows
    pixels = sum(math.prod(phase.area) for phase in phases)
    # Numbers a row holds of the input, the kernel and the result; each is made and read thrice.
    inputs, kernels = len(phases) * batch * sizes.channels, len(phases) * pairs
    results = (len(phases) + 2) * batch * sizes.out
    products = 3 * rows * len(phases) * batch * pairs
    products *= 1 + _NARROW / min(sizes.channels, sizes.out)
    transforms = 2 * pixels * batch * sizes.channels + 3 * taps * pairs
    transforms += 3 * places * batch * sizes.out
    moved = _MOVED * rows * (2 * inputs + 3 * kernels + results)
    return direct / (products + rows * transforms + moved)


def remarks(
    convolutions: Mapping[str, Sizes], batch: int, precision: str, options: Any
) -> Iterator[str]:
    """What `--convolution fourier` does not do, or does without a gain, in lines.

    Args:
        convolutions: The sizes of a network's, by layer.
        batch: Images of a training step.
        precision: Of the training.
        options: Its `RunOptions`.
    """
    if options.convolution != "fourier":
        return
    asked = "--convolution fourier"
    if precision == "bfloat16":
        yield f"{asked}: there is none in bfloat16; every convolution is direct"
    elif options.device != "cpu":
        yield f"{asked}: there is none on {options.device}; every convolution is direct"
    else:
        for name, sizes in convolutions.items():
            if not by_fourier("fourier", sizes, batch):
                points = math.prod(sizes.grid)
                yield f"{asked}: {name} has {points:,} points, above {_LARGEST:,}; it is direct"
            elif (times := gain(sizes, batch)) < 1:
                yield (
                    f"{asked}: {name} gains nothing, its cost is {1 / times:.1f} times that of the "
                    "direct form; --convolution auto takes each layer's cheaper one"
                )
