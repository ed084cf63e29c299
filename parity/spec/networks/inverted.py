"""Capsules with inverted dot-product attention, of any size, and their rows of the weights' table.

Tsai, Srivastava, Goh, Salakhutdinov, "Capsules with Inverted Dot-Product Attention Routing" (ICLR
2020), by its authors' code (apple/ml-capsules-inverted-attention-routing); where the two differ,
the code.
"""

import math
from dataclasses import dataclass, replace

from parity.spec.checks import normalise, require
from parity.spec.layers import Block, CapsuleLayer, Conv, Norm, Pixels, Primary, Tensor
from parity.spec.losses import Loss
from parity.spec.networks.residual import Residual, kernel
from parity.spec.routings import InvertedAttention, Routing

# Of the poses of a layer: over their numbers alone, one scale and shift for all its capsules.
POSES = Norm(kind="layer", epsilon=1e-5)


@dataclass(frozen=True)
class Tsai2020(Residual):
    """Inverted attention: a residual network, first capsules, capsule layers, classes, a head.

    A capsule is its pose alone, which is normalised over its numbers. Convolutions are padded by
    half their kernel; windows of capsules are not. Each child of the grid has a matrix of its own
    for each class. Logits are one linear map of a class capsule's pose, the same for all classes,
    and activations their softmax.

    Attributes:
        pixels: What becomes of an image before the stem.
        stem: Convolutions, each normalised, then relu; without a norm they have a bias instead.
        blocks: The residual network after it.
        norm: After each convolution of both; None for a stem without, and then there are no blocks.
        primary: The first capsules: a convolution without bias.
        capsules: Layers of windows before the classes.
        pose: Numbers of a class capsule's pose.
        matrices: Whether a pose is a square matrix, row by row, and a vote this times a matrix;
            otherwise it is a vector.
        released: Whether windows are those of the authors' release, which reads the places of a
            window's copies as if they stood before the numbers of a pose, not behind them.
    """

    network: str = "inverted"
    image: tuple[int, int, int] = (32, 32, 3)
    pixels: Pixels = Pixels()
    stem: tuple[Conv, ...] = (Conv(64, 3),)
    blocks: tuple[Block, ...] = (
        *(Block(64), Block(64), Block(64)),
        *(Block(128, 2, projected=True), Block(128), Block(128), Block(128)),
    )
    norm: Norm | None = Norm(epsilon=1e-5, keep=0.9, first=True)
    primary: Primary = Primary(types=32, size=16, kernel=1, stride=1)
    capsules: tuple[CapsuleLayer, ...] = (CapsuleLayer(stride=2), CapsuleLayer())
    classes: int = 10
    pose: int = 16
    matrices: bool = True
    released: bool = False
    routing: Routing = Routing("inverted_attention")
    loss: Loss = Loss(kind="negative_log_likelihood")

    # No fields, as they have no annotation.
    decoder = None
    gives = ("poses",)
    ranks = "activations"

    def __post_init__(self) -> None:
        normalise(self)
        self.check()
        self.pixels.fit(self.image[2])
        sizes = self.sizes
        for n, size in enumerate(sizes if self.matrices else ()):
            where = f"capsules {n - 1}" if 0 < n < len(sizes) - 1 else ("primary", "classes")[n > 0]
            require(
                math.isqrt(size) ** 2 == size,
                f"{where}: a pose has {size} numbers; expected a square number, 16 say, as votes "
                "are products of matrices, or matrices=False",
            )
            require(
                size == sizes[0],
                f"{where}: poses have {size} numbers; expected {sizes[0]}, as large as the first "
                "ones, or matrices=False",
            )

    @property
    def attention(self) -> InvertedAttention:
        """The routing, whose iterations and order are the network's to keep."""
        assert isinstance(self.routing, InvertedAttention)
        return self.routing

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of a pose: of the first capsules, of each layer, of the classes."""
        return (self.primary.size, *(layer.size for layer in self.capsules), self.pose)

    @property
    def types(self) -> tuple[int, ...]:
        """Capsules at each place: the first ones, each layer's, the classes."""
        return (self.primary.types, *(layer.types for layer in self.capsules), self.classes)

    def tensors(self) -> dict[str, Tensor]:
        """Name -> Tensor for every parameter and all state, in the order of execution.

        First weights are those of the authors' code: torch's own of convolutions and the head.
        """
        rows: dict[str, Tensor] = {}
        for name, conv, sizes in self._convolutions():
            rows[f"{name}.kernel"] = row = kernel(conv, sizes, 1)
            if name == "primary":
                rows |= self._norm(name, self.primary.size)
            elif self.norm is None:
                rows[f"{name}.bias"] = Tensor("out", (conv.channels,), 0.0, 0.0, row.bound)
            else:
                rows |= self.norm.rows(f"{name}.norm", conv.channels)
        last = len(self.capsules)
        for n, window in enumerate(self.windows):
            (inputs, outputs), (size, made) = self.types[n : n + 2], self.sizes[n : n + 2]
            axes, matrix = "kh kw i j k d", (size, made)
            if self.matrices:
                axes, matrix = "kh kw i j p q", (math.isqrt(size),) * 2
            shape = (*window.kernel, inputs, outputs, *matrix)
            std = math.sqrt(outputs / (matrix[0] * math.prod(shape[:3])))
            rows[f"capsule.{n}.kernel"] = Tensor(axes, shape, std, 0.0, whole=True)
            rows |= self._norm(f"capsule.{n}", made, n == last)
        bound = math.sqrt(1 / self.pose)
        rows["head.kernel"] = Tensor("in out", (self.pose, 1), 0.0, 0.0, bound)
        # It shifts all logits alike, which their softmax takes away again.
        rows["head.bias"] = Tensor("out", (1,), 0.0, 0.0, bound, free="always")
        return rows

    def _norm(self, name: str, size: int, last: bool = False) -> dict[str, Tensor]:
        """The rows of the poses' normalisation; a pose of one number has none."""
        if size == 1:
            return {}
        rows = POSES.rows(f"{name}.norm", size)
        # So does the classes' shift, unless an iteration takes the poses of one before.
        if last and self.attention.num_iters == 1:
            rows[f"{name}.norm.shift"] = replace(rows[f"{name}.norm.shift"], free="always")
        return rows
