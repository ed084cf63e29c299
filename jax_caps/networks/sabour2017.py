"""CapsuleNetwork: the network of 2017, its layers put together.

Axes: B batch, H W C image.
"""

from jax import Array

from jax_caps.arrays import from_numpy
from jax_caps.capsules import Capsules, Tap
from jax_caps.layers import Decoder, DigitCapsules, PrimaryCapsules, Stem
from jax_caps.networks.network import Network, Total
from jax_caps.numerics import dtypes
from parity.spec import Method, NetworkSpec, Precision, Sabour2017, SpecError
from parity.weights import draw


class CapsuleNetwork(Network):
    """A capsule network (Sabour, Frosst, Hinton 2017, figures 1 and 2) of any size.

    Sets strict numerics for the process, once (`numerics.build`; `numerics.restore` undoes it).

    Args:
        spec: What the network is: `parity.spec.preset("sabour2017")`, or your own.
        seed: Of the first weights, the same in both wings.
        precision: float32, float64, or bfloat16: convolutions and decoder in bfloat16, all else
            in float32.
        lean: Whether to route without storing the votes; False keeps the step by step routing.
        block: Input capsules a block of lean routing; None chooses from the sizes.
        convolution: "direct", "fourier", or "auto", which chooses from the sizes; where every
            tensor is looked at, by a tap, convolutions are direct.

    Raises:
        SpecError: Where the precision is unknown, or the spec is another network's.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        seed: int = 0,
        precision: Precision = "float32",
        lean: bool = True,
        block: int | None = None,
        convolution: Method = "auto",
    ):
        if not isinstance(spec, Sabour2017):
            raise SpecError(f"a spec of network {spec.network!r}; build(spec) makes any network")
        super().__init__(spec, precision)
        _, compute = dtypes(precision)
        self.stem = Stem(spec, compute, convolution)
        self.primary = PrimaryCapsules(spec, compute, convolution)
        self.digit = DigitCapsules(spec, lean, block)
        self.decoder = Decoder(spec, compute) if spec.decoder is not None else None
        from_numpy(self, draw(spec, seed))

    def _encode(
        self, x_BHWC: Array, train: bool, tap: Tap, total: Total | None
    ) -> tuple[Capsules, dict[str, Array]]:
        return Capsules(self.digit(self.primary(self.stem(x_BHWC, tap), tap), tap)), {}
