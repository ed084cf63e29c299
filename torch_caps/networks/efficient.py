"""EfficientNetwork: Efficient-CapsNet, its layers put together.

Axes: B batch, H W C image.
"""

from torch import Tensor

from parity.spec import Efficient, Method, Precision, SpecError
from parity.weights import draw
from torch_caps.arrays import from_numpy
from torch_caps.capsules import Capsules, Tap
from torch_caps.layers import (
    Decoder,
    DepthwiseCapsules,
    DigitCapsules,
    NormalStem,
    UpsamplingDecoder,
    standardised,
)
from torch_caps.networks.network import Network, Total
from torch_caps.numerics import dtypes


class EfficientNetwork(Network):
    """Efficient-CapsNet (Mazzia, Salvetti, Chiaberge 2021) of any size.

    Sets strict numerics for the process, once (`numerics.build`; `numerics.restore` undoes it).

    Args:
        spec: What the network is: `parity.spec.preset("efficient")`, or your own.
        seed: Of the first weights, the same in both wings.
        precision: float32, float64, or bfloat16: the stem's convolutions and the decoder in
            bfloat16, all else in float32.
        lean: Whether to route without storing the votes, where the routing has such a twin.
        block: Input capsules a block of lean routing; None chooses from the sizes.
        convolution: Of the stem, as in `CapsuleNetwork`.

    Raises:
        SpecError: Where the precision is unknown, or the spec is another network's.
    """

    def __init__(
        self,
        spec: Efficient,
        seed: int = 0,
        precision: Precision = "float32",
        lean: bool = True,
        block: int | None = None,
        convolution: Method = "auto",
    ):
        if not isinstance(spec, Efficient):
            raise SpecError(f"a spec of network {spec.network!r}; build(spec) makes any network")
        super().__init__(spec, precision)
        dtype, compute = dtypes(precision)
        self.pixels, self.epsilon = spec.pixels, spec.norm.epsilon
        how = spec.norm, spec.slope, compute, convolution
        self.stem = NormalStem(spec.image[2], spec.stem, *how)
        self.primary = DepthwiseCapsules(spec)
        self.digit = DigitCapsules(spec, lean, block)
        decoder = Decoder if spec.upsampling is None else UpsamplingDecoder
        self.decoder = None if spec.decoder is None else decoder(spec, compute)
        self.to(dtype)
        from_numpy(self, draw(spec, seed))

    def _encode(
        self, x_BHWC: Tensor, train: bool, tap: Tap, total: Total | None
    ) -> tuple[Capsules, dict[str, Tensor]]:
        x_BHWC = tap("pixels", standardised(x_BHWC, self.pixels, self.epsilon))
        x_BHWC, state = self.stem(x_BHWC, train=train, tap=tap, total=total)
        return Capsules(self.digit(self.primary(x_BHWC, tap), tap)), state
