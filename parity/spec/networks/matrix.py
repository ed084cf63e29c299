"""Matrix capsules, of any size, and their rows of the table of weights.

Hinton, Sabour, Frosst, "Matrix capsules with EM routing" (ICLR 2018), figure 1; where the paper is
silent, its authors' released code (google-research, capsule_em).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from parity.spec.checks import FINITE, FROM_ZERO, check, fields, normalise, require
from parity.spec.convolution import Sizes
from parity.spec.layers import CapsuleLayer, Conv, Pixels, Primary, Tensor
from parity.spec.losses import Loss
from parity.spec.networks.network import NetworkSpec
from parity.spec.routings import Routing


class Matrix(NetworkSpec):
    """What networks of matrix capsules share: poses of P x P, and windows, nothing padded.

    A vote is a child's pose times a matrix of its own, and the class capsules see the whole grid.

    Attributes:
        shared: Whether all places have one matrix for each pair of types, in votes for the classes.
        logits: Whether the routing gives logits of activations, for a norm.
    """

    coordinates: float
    # No fields of the networks, unless they say so.
    decoder = None
    gives = ("activations",)
    ranks = "activations"
    shared = True
    logits: ClassVar[bool] = False

    def check(self) -> None:
        """Raises SpecError for sizes that cannot be built."""
        super().check()
        check("network", FINITE, coordinates=self.coordinates)
        expected, name = {"beta_a", "beta_u"}, self.routing.name
        require(
            self.routing.owns.keys() == expected,
            f"network {self.network} has betas, and {name} takes none; use another routing",
        )
        kinds = ("logits", "activations") if self.logits else ("activations", "logits")
        require(
            self.routing.logits == self.logits,
            f"network {self.network} needs {kinds[0]} from its routing, and {name} gives "
            f"{kinds[1]}; use another routing",
        )
        require(self.side > 1 or not self.coordinates, "primary: a pose of 1 has no coordinates")
        size = self.primary.size
        require(
            math.isqrt(size) ** 2 == size,
            f"primary: a pose has {size} numbers; expected a square number, 16 say, as votes are "
            "products of matrices",
        )
        for n, layer in enumerate(self.capsules):
            require(
                layer.size == size,
                f"capsules {n}: poses have {layer.size} numbers; expected {size}, as large as the "
                "first ones",
            )

    @property
    def pose(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Numbers of a class capsule's pose."""
        return self.primary.size

    @property
    def side(self) -> int:
        """P, rows and columns of a pose."""
        return math.isqrt(self.primary.size)

    def _convolutions(self) -> Iterator[tuple[str, Conv | Primary, Sizes]]:
        *stem, primary = super()._convolutions()
        yield from stem  # pyright: ignore[reportReturnType]
        _, first, sizes = primary
        activation = Conv(self.primary.types, first.kernel, first.stride)
        yield "activation", activation, sizes._replace(out=self.primary.types)
        yield "primary", self.primary, sizes

    @property
    def places(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """What is added to votes for the classes: of each row, and of each column, of senders."""
        raise NotImplementedError

    @property
    def row_element(self) -> tuple[int, int]:
        """Row and column of the vote's element that a child's row is added to."""
        return 0, self.side - 1

    @property
    def column_element(self) -> tuple[int, int]:
        """Row and column of the vote's element that a child's column is added to."""
        return 1, self.side - 1

    @property
    def class_options(self) -> dict[str, float]:
        """The options of the routing to the classes that are not those of the other layers."""
        return {}


@dataclass(frozen=True)
class MatrixInit:
    """First weights: deviations of normals cut at two of them, biases and betas.

    The betas are the released code's, in the units of the paper's procedure 1.
    """

    stem: float = 0.05
    bias: float = 0.1
    primary: float = 0.5
    activation: float = 3.0
    capsules: float = 0.3
    classes: float = 0.01
    beta_a: float = -1250.0
    beta_u: float = 0.709
    class_beta_a: float = -2500.0
    class_beta_u: float = 2.838

    def __post_init__(self) -> None:
        normalise(self)
        check("init", FROM_ZERO, **fields(self, "stem primary activation capsules classes"))
        check("init", FINITE, **fields(self, "bias beta_a beta_u class_beta_a class_beta_u"))


@dataclass(frozen=True)
class Hinton2018(Matrix):
    """Matrix capsules: a stem, first capsules, layers of windows, classes; nothing is padded.

    A vote is a child's pose, P x P, times a matrix of its own. The class capsules see the whole
    grid, with one matrix for each pair of types at all places.

    Attributes:
        pixels: What becomes of an image before the stem.
        stem: Convolutions, each followed by relu.
        primary: The first capsules; one convolution makes poses, another activations.
        capsules: Layers of windows before the classes; poses are as large as the first ones.
        coordinates: What the place of a child, in pixels from the middle of the image, is
            multiplied by before it is added to its votes for the classes; 0 adds none.
        offset: Added to the logits of the first activations.
    """

    network: str = "matrix"
    image: tuple[int, int, int] = (32, 32, 2)
    pixels: Pixels = Pixels(own=True, joint=True)
    stem: tuple[Conv, ...] = (Conv(32, 5, 2),)
    primary: Primary = Primary(types=32, size=16, kernel=1, stride=1)
    capsules: tuple[CapsuleLayer, ...] = (CapsuleLayer(stride=2), CapsuleLayer())
    classes: int = 5
    coordinates: float = 0.01
    offset: float = -1.0
    routing: Routing = Routing("em")
    loss: Loss = Loss(kind="spread")
    init: MatrixInit = MatrixInit()

    def __post_init__(self) -> None:
        normalise(self)
        self.check()
        self.pixels.fit(self.image[2])
        check("network", FINITE, offset=self.offset)

    @property
    def places(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """What is added to votes for the classes: of each row, and of each column, of senders."""
        edge, step = self.cells
        rows, columns = (
            tuple(self.coordinates * (edge + step / 2 + step * n - size / 2) for n in range(count))
            for count, size in zip(self.senders[:2], self.image[:2], strict=True)
        )
        return rows, columns

    @property
    def row_element(self) -> tuple[int, int]:
        """Row and column of the vote's element that a child's row is added to."""
        # The released code adds to the first two elements of the first row.
        return (0, 1) if self._released else super().row_element

    @property
    def column_element(self) -> tuple[int, int]:
        """Row and column of the vote's element that a child's column is added to."""
        return (0, 0) if self._released else super().column_element

    @property
    def class_options(self) -> dict[str, float]:
        """The options of the routing to the classes that are not those of the other layers."""
        if not self._released:
            return super().class_options
        return {"inverse_temperature": self.routing.options["inverse_temperature"] / 4}

    @property
    def _released(self) -> bool:
        return self.routing.options.get("released", False)

    def tensors(self) -> dict[str, Tensor]:
        """Name -> Tensor for every parameter, in the order of execution."""
        init, rows = self.init, {}
        deviations = {"activation": init.activation, "primary": init.primary}
        for name, conv, sizes in self._convolutions():
            shape = (*sizes.kernel, sizes.channels, conv.channels)
            std = deviations.get(name, init.stem)
            rows[f"{name}.kernel"] = Tensor("kh kw in out", shape, std, 0.0)
            if name not in deviations:  # the first capsules have no biases
                rows[f"{name}.bias"] = Tensor("out", shape[-1:], 0.0, init.bias)
        types, matrix = self.primary.types, (self.side, self.side)
        for n, (layer, window) in enumerate(zip(self.capsules, self.windows, strict=False)):
            shape = (*window.kernel, types, layer.types, *matrix)
            rows[f"capsule.{n}.kernel"] = Tensor("kh kw i j p q", shape, init.capsules, 0.0)
            rows |= self._betas(f"capsule.{n}", layer.types, init.beta_a, init.beta_u)
            types = layer.types
        shape, name = (types, self.classes, *matrix), f"capsule.{len(self.capsules)}"
        rows[f"{name}.kernel"] = Tensor("i j p q", shape, init.classes, 0.0)
        return rows | self._betas(name, self.classes, init.class_beta_a, init.class_beta_u)

    def _betas(self, name: str, types: int, beta_a: float, beta_u: float) -> dict[str, Tensor]:
        values = {"beta_a": beta_a, "beta_u": beta_u}
        return {f"{name}.{beta}": Tensor("j", (types,), 0.0, v) for beta, v in values.items()}
