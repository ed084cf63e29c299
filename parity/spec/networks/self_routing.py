"""Self-routing capsules on a residual network, of any size, and their rows of the table of weights.

Hahn, Pyeon, Kim, "Self-Routing Capsule Networks" (NeurIPS 2019); where the paper is silent, its
authors' code (coder3000/SR-CapsNet).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from parity.spec.checks import normalise
from parity.spec.convolution import Sizes
from parity.spec.layers import Block, CapsuleLayer, Conv, Norm, Pixels, Primary, Tensor
from parity.spec.losses import Loss
from parity.spec.networks.residual import Residual, kernel, padded
from parity.spec.routings import Routing


@dataclass(frozen=True)
class Hahn2019(Residual):
    """Self-routing capsules: a residual network, first capsules, capsule layers, classes.

    Every convolution and every layer but the last is padded by half its kernel. The class capsules
    see the whole grid; they have activations, which sum to 1, and no poses.

    Attributes:
        pixels: What becomes of an image before the stem.
        stem: Convolutions without bias, each normalised, then relu.
        blocks: The residual network after it.
        norm: After each convolution, and of the poses between capsule layers.
        primary: The first capsules; one convolution makes poses, another of its size activations.
        capsules: Layers between the first capsules and the classes: none is the paper's SR-1.
    """

    network: str = "self_routing"
    image: tuple[int, int, int] = (32, 32, 3)
    pixels: Pixels = Pixels()
    stem: tuple[Conv, ...] = (Conv(16, 3),)
    blocks: tuple[Block, ...] = (
        *(Block(16), Block(16), Block(16)),
        *(Block(32, 2), Block(32), Block(32)),
        *(Block(64, 2), Block(64), Block(64)),
    )
    norm: Norm = Norm(epsilon=1e-5, keep=0.9, first=True)
    primary: Primary = Primary(types=32, size=16, kernel=3, stride=1)
    capsules: tuple[CapsuleLayer, ...] = ()
    classes: int = 10
    routing: Routing = Routing("self_routing")
    loss: Loss = Loss(kind="negative_log_likelihood")

    # No fields, as they have no annotation: the class capsules have activations alone.
    pose = 0
    decoder = None
    padded = True
    gives = ("activations", "logits")
    ranks = "activations"

    def __post_init__(self) -> None:
        normalise(self)
        self.check()
        self.pixels.fit(self.image[2])

    def _first_capsules(
        self, image: tuple[int, int], channels: int
    ) -> Iterator[tuple[str, Conv | Primary, Sizes]]:
        first = self.primary
        activation = Conv(first.types, first.kernel, first.stride)
        yield "activation", activation, padded(activation, image, channels)
        yield "primary", first, padded(first, image, channels)

    def tensors(self) -> dict[str, Tensor]:
        """Name -> Tensor for every parameter and all state, in the order of execution.

        First weights are those of the authors' code: routing begins uniform, with R and b at 0.
        """
        rows: dict[str, Tensor] = {}
        for name, conv, sizes in self._convolutions():
            rows[f"{name}.kernel"] = kernel(conv, sizes, 6)
            rows |= self.norm.rows(f"{name}.norm", conv.channels)
        types, size = self.primary.types, self.primary.size
        for n, window in enumerate(self.windows):
            layer = self.capsules[n] if n < len(self.capsules) else None
            outputs = self.classes if layer is None else layer.types
            shape = (*window.kernel, types, outputs)
            rows[f"capsule.{n}.route.kernel"] = Tensor("kh kw i j k", (*shape, size), 0.0, 0.0)
            rows[f"capsule.{n}.route.bias"] = Tensor("kh kw i j", shape, 0.0, 0.0)
            if layer is not None:
                # torch's kaiming_uniform takes the product of all axes but the first for the fan.
                bound = math.sqrt(6 / (outputs * layer.size * size))
                shape = (*shape, size, layer.size)
                rows[f"capsule.{n}.kernel"] = Tensor("kh kw i j k d", shape, 0.0, 0.0, bound)
                rows |= self.norm.rows(f"capsule.{n}.norm", outputs * layer.size)
                types, size = layer.types, layer.size
        return rows
