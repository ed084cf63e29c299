"""Matrix capsules with variational Bayes routing, and their rows of the table of weights.

Ribeiro, Leontidis, Kollias, "Capsule Routing via Variational Bayes" (AAAI 2020), by their released
code (fabio-deep/Variational-Capsule-Routing).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from parity.spec.checks import check_count, normalise, require
from parity.spec.layers import CapsuleLayer, Conv, Norm, Pixels, Primary, Tensor
from parity.spec.losses import Loss
from parity.spec.networks.matrix import Matrix
from parity.spec.routings import Routing


@dataclass(frozen=True)
class Ribeiro2020(Matrix):
    """Matrix capsules with norms: a stem, first capsules, layers of windows, classes.

    Nothing has a bias but the routing, and nothing is padded. After each routing two batch norms
    without scale and shift: of poses, a type over all images, places and components, and of the
    logits of activations, before their sigmoid.

    Attributes:
        pixels: What becomes of an image before the stem.
        stem: Convolutions, each normalised, then relu.
        norm: Of the stem, the first capsules and those after a routing: a batch norm.
        primary: The first capsules; one convolution makes poses, another activations.
        capsules: Layers of windows before the classes; poses are as large as the first ones.
        coordinates: What (n + 1) / size of a child's n-th row and column is multiplied by before
            it is added to its votes for the classes; 0 adds none.
        shared: Whether all places share the matrices of votes for the classes.
        released: Whether coordinates are those of the released code: of the classes' only place,
            so that the votes of all children have the same constant added.
    """

    network: str = "variational_bayes"
    image: tuple[int, int, int] = (32, 32, 2)
    pixels: Pixels = Pixels(own=True)
    stem: tuple[Conv, ...] = (Conv(64, 5, 2),)
    norm: Norm = Norm(epsilon=1e-5, keep=0.9, first=True)
    primary: Primary = Primary(types=8, size=16, kernel=1, stride=1)
    capsules: tuple[CapsuleLayer, ...] = (CapsuleLayer(16, stride=2), CapsuleLayer(16))
    classes: int = 5
    coordinates: float = 0.1
    shared: bool = True  # pyright: ignore[reportIncompatibleVariableOverride]
    released: bool = False
    routing: Routing = Routing("variational_bayes")
    loss: Loss = Loss(kind="cross_entropy")

    logits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        normalise(self)
        self.check()
        self.pixels.fit(self.image[2])
        require(
            self.norm.first and self.norm.kind == "batch",
            f"norm: kind is {self.norm.kind!r}, first is {self.norm.first}; expected batch, before "
            "the activation",
        )

    def check_batch(self, images: int) -> None:
        """Raises SpecError for one image, over which class activations have no variance."""
        check_count(images)

    def rectified(self) -> tuple[str, ...]:
        """The taps that a relu takes or makes, as those of every network."""
        return tuple(f"stem.{n}.norm" for n in range(len(self.stem)))

    @property
    def places(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """What is added to votes for the classes: of each row, and of each column, of senders."""
        rows, columns = (
            tuple(self.coordinates * (1 if self.released else (n + 1) / size) for n in range(size))
            for size in self.senders[:2]
        )
        return rows, columns

    def tensors(self) -> dict[str, Tensor]:
        """Name -> Tensor for every parameter and all state, in the order of execution.

        First weights are those of the released code: He et al. for the stem, Glorot and Bengio for
        all others, both uniform; betas begin at 0.
        """
        rows: dict[str, Tensor] = {}
        for name, conv, sizes in self._convolutions():
            shape = (*sizes.kernel, sizes.channels, conv.channels)
            fan_in, fan_out = math.prod(shape[:3]), math.prod(shape[:2]) * conv.channels
            bound = math.sqrt(6 / (fan_in if name.startswith("stem.") else fan_in + fan_out))
            rows[f"{name}.kernel"] = Tensor("kh kw in out", shape, 0.0, 0.0, bound)
            width = self.primary.types if name == "primary" else conv.channels
            rows |= self.norm.rows(f"{name}.norm", width)
        types, matrix = self.primary.types, (self.side, self.side)
        for n, window in enumerate(self.windows):
            last = n == len(self.capsules)
            outputs = self.classes if last else self.capsules[n].types
            axes, kernel = ("i j p q", ()) if last and self.shared else ("kh kw i j p q", window[1])
            name, shape = f"capsule.{n}", (*kernel, types, outputs, *matrix)
            # The fans of the released code: types, times places, times numbers of a pose.
            bound = math.sqrt(6 / ((types + outputs) * math.prod(kernel) * self.primary.size))
            rows[f"{name}.kernel"] = Tensor(axes, shape, 0.0, 0.0, bound)
            # A norm's mean takes them away again: no gradient in training.
            beta = Tensor("j", (outputs,), 0.0, 0.0, free="training")
            rows |= {f"{name}.{key}": beta for key in self.routing.owned}
            for norm in ("norm", "activation.norm"):
                rows |= self.norm.rows(f"{name}.{norm}", outputs, affine=False)
            types = outputs
        return rows
