"""DeepCapsNetwork: DeepCaps, its layers put together.

Axes: B batch, I input capsules, J classes, K size of an input pose, D of an output pose, H W C
image or feature map.
"""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array

from jax_caps.arrays import from_numpy
from jax_caps.capsules import Capsules, Tap, no_tap
from jax_caps.layers import Cell, DigitCapsules, NormalStem, TransposedDecoder
from jax_caps.networks.network import Network, Total
from jax_caps.numerics import dtypes
from parity.spec import Method, Precision, Rajasegaran2019, SpecError
from parity.weights import draw


class DeepCapsNetwork(Network):
    """DeepCaps (Rajasegaran et al. 2019) of any size.

    Sets strict numerics for the process, once (`numerics.build`; `numerics.restore` undoes it).

    Args:
        spec: What the network is: `parity.spec.preset("deepcaps")`, or your own.
        seed: Of the first weights, the same in both wings.
        precision: float32, float64, or bfloat16: convolutions and decoder in bfloat16, all else in
            float32.
        lean: Whether to route to the classes without storing the votes, where the routing has such
            a twin.
        block: Input capsules a block of lean routing; None chooses from the sizes.
        convolution: As in `CapsuleNetwork`.

    Raises:
        SpecError: Where the precision is unknown, or the spec is another network's.
    """

    cell: Any

    def __init__(
        self,
        spec: Rajasegaran2019,
        seed: int = 0,
        precision: Precision = "float32",
        lean: bool = True,
        block: int | None = None,
        convolution: Method = "auto",
    ):
        if not isinstance(spec, Rajasegaran2019):
            raise SpecError(f"a spec of network {spec.network!r}; build(spec) makes any network")
        super().__init__(spec, precision)
        _, compute = dtypes(precision)
        how: Any = spec.norm, 0.0, compute, convolution, True, "same"
        self.stem = NormalStem(spec.image[2], spec.stem, *how)
        width, cells = spec.width, []
        for n, layer in enumerate(spec.capsules):
            routing = spec.skip if n == len(spec.capsules) - 1 else None
            cells.append(Cell(width, layer, routing, compute, convolution))
            width = layer.types * layer.size
        self.cell = nnx.List(cells)
        self.digit = DigitCapsules(spec, lean, block)
        self.decoder = None if spec.decoder is None else TransposedDecoder(spec, compute)
        from_numpy(self, draw(spec, seed))

    def convolutions(self) -> dict[str, Any]:
        """The layers that convolve, by name, as `NetworkSpec.convolutions` has their sizes."""
        cells, layers = list(self.cell), list(self.stem)
        for n, cell in enumerate(cells):
            first, *rest = cell.caps
            # The last one's skip connection is a routing.
            layers += [first, *([cell.skip] if n < len(cells) - 1 else []), *rest]
        return dict(zip(self.spec.convolutions(), layers, strict=True))

    def _encode(
        self, x_BHWC: Array, train: bool, tap: Tap, total: Total | None
    ) -> tuple[Capsules, dict[str, Array]]:
        x_BHWC, state = self.stem(x_BHWC, train=train, tap=tap, total=total)
        grids = []
        # Its channels are capsules of one number, which are not squashed.
        for n, cell in enumerate(self.cell):
            grids.append(cell(x_BHWC, f"cell.{n}", tap))
            x_BHWC = grids[-1].reshape(*grids[-1].shape[:3], -1)
        # The classes see the last cell's capsules, then those of the one before.
        seen = [poses.reshape(poses.shape[0], -1, poses.shape[4]) for poses in grids[:-3:-1]]
        inputs_BIK = tap("primary.poses", jnp.concatenate(seen, 1))
        return Capsules(self.digit(inputs_BIK, tap)), state

    def _decode(
        self,
        masked_BJD: Array,
        train: bool = False,
        tap: Tap = no_tap,
        total: Total | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        return self.decoder(masked_BJD, train=train, tap=tap, total=total)
