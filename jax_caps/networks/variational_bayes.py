"""VariationalBayesNetwork: matrix capsules with norms, their layers put together.

Axes: B batch, H W C image or feature map.
"""

from typing import Any

import jax
from flax import nnx
from jax import Array

from jax_caps.arrays import from_numpy
from jax_caps.capsules import Capsules, Tap
from jax_caps.layers import (
    NormalConv,
    NormalMatrixCapsules,
    NormalPoses,
    NormalStem,
    standardised,
)
from jax_caps.networks.network import Network, Total
from jax_caps.numerics import dtypes
from parity.spec import Conv, Method, Precision, Ribeiro2020, SpecError
from parity.weights import draw


class VariationalBayesNetwork(Network):
    """Matrix capsules with variational Bayes routing (Ribeiro, Leontidis, Kollias 2020).

    Sets strict numerics for the process, once (`numerics.build`; `numerics.restore` undoes it).

    Args:
        spec: What the network is: `parity.spec.preset("ribeiro2020")`, or your own.
        seed: Of the first weights, the same in both wings.
        precision: float32, float64, or bfloat16: convolutions in bfloat16, all else in float32.
        lean: Whether a batch too large for its votes is routed by blocks of images, whose votes are
            made again for the gradient, instead of stored.
        block: Images of a block; None chooses from the sizes.
        convolution: As in `CapsuleNetwork`.

    Raises:
        SpecError: Where the precision is unknown, or the spec is another network's.
    """

    def __init__(
        self,
        spec: Ribeiro2020,
        seed: int = 0,
        precision: Precision = "float32",
        lean: bool = True,
        block: int | None = None,
        convolution: Method = "auto",
    ):
        if not isinstance(spec, Ribeiro2020):
            raise SpecError(f"a spec of network {spec.network!r}; build(spec) makes any network")
        super().__init__(spec, precision)
        _, compute = dtypes(precision)
        self.pixels, self.epsilon, self.decoder = spec.pixels, spec.norm.epsilon, None
        first = spec.primary
        how: Any = compute, convolution, False
        self.stem = NormalStem(spec.image[2], spec.stem, spec.norm, 0.0, *how)
        activation = Conv(first.types, first.kernel, first.stride)
        self.activation = NormalConv(spec.width, activation, spec.norm, None, *how)
        self.primary = NormalPoses(spec.width, spec, compute, convolution)
        layers = range(len(spec.capsules) + 1)
        self.capsule = nnx.List([NormalMatrixCapsules(spec, n, lean, block) for n in layers])
        from_numpy(self, draw(spec, seed))

    def convolutions(self) -> dict[str, Any]:
        """The layers that convolve, by name, as `NetworkSpec.convolutions` has their sizes."""
        layers = [*self.stem, self.activation, self.primary]
        return dict(zip(self.spec.convolutions(), layers, strict=True))

    def _encode(
        self, x_BHWC: Array, train: bool, tap: Tap, total: Total | None
    ) -> tuple[Capsules, dict[str, Array]]:
        how: dict[str, Any] = {"train": train, "tap": tap, "total": total}
        x = tap("pixels", standardised(x_BHWC, self.pixels, self.epsilon))
        x, state = self.stem(x, **how)
        # The first capsules: one convolution for activations, one for poses.
        logits, new = self.activation(x, "activation", **how)
        poses, more = self.primary(x, "primary", **how)
        state |= new | more
        activations = tap("primary.activations", jax.nn.sigmoid(logits))
        capsules = Capsules(tap("primary.poses", poses), activations)
        for n, layer in enumerate(self.capsule):
            capsules, new = layer(capsules, f"capsule.{n}", **how)
            state |= new
        return capsules, state
