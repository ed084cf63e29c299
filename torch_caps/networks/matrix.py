"""MatrixNetwork: matrix capsules, their layers put together.

Axes: B batch, H W C image or feature map.
"""

from typing import Any

import torch
from torch import Tensor, nn

from parity.spec import Hinton2018, Method, Precision, SpecError
from parity.weights import draw
from torch_caps.arrays import from_numpy
from torch_caps.capsules import Capsules, Tap
from torch_caps.layers import Conv, MatrixCapsules, Stem, standardised
from torch_caps.networks.network import Network, Total
from torch_caps.numerics import dtypes

EPSILON = 1e-5  # of an image's own standardisation


class MatrixNetwork(Network):
    """Matrix capsules (Hinton, Sabour, Frosst 2018, figure 1) of any size.

    Sets strict numerics for the process, once (`numerics.build`; `numerics.restore` undoes it).

    Args:
        spec: What the network is: `parity.spec.preset("hinton2018")`, or your own.
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
        spec: Hinton2018,
        seed: int = 0,
        precision: Precision = "float32",
        lean: bool = True,
        block: int | None = None,
        convolution: Method = "auto",
    ):
        if not isinstance(spec, Hinton2018):
            raise SpecError(f"a spec of network {spec.network!r}; build(spec) makes any network")
        super().__init__(spec, precision)
        dtype, compute = dtypes(precision)
        self.first, self.decoder = spec.primary, None
        self.pixels, self.offset = spec.pixels, spec.offset
        self.stem, first = Stem(spec, compute, convolution), spec.primary
        how: Any = first.kernel, first.stride, compute, convolution, False
        self.activation = Conv(spec.width, first.types, *how)
        self.primary = Conv(spec.width, first.channels, *how)
        self.capsule = nn.ModuleList(
            [MatrixCapsules(spec, n, lean, block) for n in range(len(spec.capsules) + 1)]
        )
        self.to(dtype)
        from_numpy(self, draw(spec, seed))

    def convolutions(self) -> dict[str, Any]:
        """The layers that convolve, by name, as `NetworkSpec.convolutions` has their sizes."""
        layers = [*self.stem, self.activation, self.primary]
        return dict(zip(self.spec.convolutions(), layers, strict=True))

    def _encode(
        self, x_BHWC: Tensor, train: bool, tap: Tap, total: Total | None
    ) -> tuple[Capsules, dict[str, Tensor]]:
        x = self.stem(tap("pixels", standardised(x_BHWC, self.pixels, EPSILON)), tap)
        # In the dtype of the kernels from here on.
        logits = self.activation.convolved(x, tap).to(self.activation.kernel.dtype)
        logits = tap("activation.conv", logits)
        x = self.primary.convolved(x, tap).to(self.primary.kernel.dtype)
        x = tap("primary.conv", x)
        activations = tap("primary.activations", torch.sigmoid(logits + self.offset))
        poses = x.reshape(*x.shape[:3], self.first.types, self.first.size)
        capsules = Capsules(tap("primary.poses", poses), activations)
        for n, layer in enumerate(self.capsule):
            capsules = layer(capsules, f"capsule.{n}", tap)
        return capsules, {}
