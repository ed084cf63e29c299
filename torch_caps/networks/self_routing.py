"""SelfRoutingNetwork: self-routing capsules on a residual network, its layers put together.

Axes: B batch, H W C image or feature map.
"""

from typing import Any

from torch import Tensor, nn

from parity.spec import Conv, Hahn2019, Method, Precision, SpecError
from parity.spec.networks.residual import same
from parity.weights import draw
from torch_caps.arrays import from_numpy
from torch_caps.capsules import Capsules, Tap
from torch_caps.layers import NormalConv, SelfRoutingCapsules
from torch_caps.networks.network import Total
from torch_caps.networks.residual import Residual
from torch_caps.numerics import dtypes


class SelfRoutingNetwork(Residual):
    """Self-routing capsules (Hahn, Pyeon, Kim 2019) of any size.

    Sets strict numerics for the process, once (`numerics.build`; `numerics.restore` undoes it).

    Args:
        spec: What the network is: `parity.spec.preset("selfrouting2019")`, or your own.
        seed: Of the first weights, the same in both wings.
        precision: float32, float64, or bfloat16: convolutions in bfloat16, all else in float32.
        lean: Of no effect: this routing has no lean twin.
        block: Alike.
        convolution: As in `CapsuleNetwork`.

    Raises:
        SpecError: Where the precision is unknown, or the spec is another network's.
    """

    def __init__(
        self,
        spec: Hahn2019,
        seed: int = 0,
        precision: Precision = "float32",
        lean: bool = True,
        block: int | None = None,
        convolution: Method = "auto",
    ):
        if not isinstance(spec, Hahn2019):
            raise SpecError(f"a spec of network {spec.network!r}; build(spec) makes any network")
        super().__init__(spec, precision, convolution)
        dtype, compute = dtypes(precision)
        self.first, self.decoder = spec.primary, None
        first = spec.primary
        how: Any = compute, convolution, False, same(first.kernel)
        activation = Conv(first.types, first.kernel, first.stride)
        self.activation = NormalConv(self.width, activation, spec.norm, None, *how)
        self.primary = NormalConv(self.width, first, spec.norm, None, *how)
        types, size, layers = first.types, first.size, []
        for layer, window in zip(spec.capsules, spec.windows, strict=False):
            pairs = (types, layer.types), (size, layer.size)
            layers.append(SelfRoutingCapsules(window, same(layer.kernel), *pairs, spec.norm))
            types, size = layer.types, layer.size
        pairs = (types, spec.classes), (size, 0)
        layers.append(SelfRoutingCapsules(spec.windows[-1], 0, *pairs, spec.norm))
        self.capsule = nn.ModuleList(layers)
        self.to(dtype)
        from_numpy(self, draw(spec, seed))

    def _encode(
        self, x_BHWC: Tensor, train: bool, tap: Tap, total: Total | None
    ) -> tuple[Capsules, dict[str, Tensor]]:
        how: dict[str, Any] = {"train": train, "tap": tap, "total": total}
        x, state = self.features(x_BHWC, **how)
        # The first capsules: one convolution for activations, one for poses, without a squash.
        logits, new = self.activation(x, "activation", **how)
        x, more = self.primary(x, "primary", **how)
        state |= new | more
        activations = tap("primary.activations", logits.sigmoid())
        poses = x.reshape(*x.shape[:3], self.first.types, self.first.size)
        capsules = Capsules(tap("primary.poses", poses), activations)
        for n, layer in enumerate(self.capsule):
            capsules, new = layer(capsules, f"capsule.{n}", **how)
            state |= new
        return capsules, state
