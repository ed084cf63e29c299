"""A normalisation that holds its numbers, the stem it is in, and the standardisation of pixels.

Axes: B batch, H W C image or feature map.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity import spec as specs
from torch_caps import norm
from torch_caps.capsules import Tap, no_tap
from torch_caps.layers.stem import Conv, one_line, parameter
from torch_caps.norm import Total

State = dict[str, Tensor]


def leaky(x: Tensor, slope: float) -> Tensor:
    """Leaky relu: x where it is above 0, else slope * x; relu for a slope of 0."""
    return F.relu(x) if slope == 0 else torch.where(x > 0, x, slope * x)


class Norm(nn.Module):
    """A normalisation with its scale, its shift and, of a batch norm, its running numbers.

    Args:
        spec: Which one, and its options.
        width: Channels.
        affine: Whether it has a scale and a shift.
    """

    __repr__ = one_line

    def __init__(self, spec: specs.Norm, width: int, affine: bool = True):
        super().__init__()
        self.spec, self.scale, self.shift = spec, None, None
        if affine:
            self.scale, self.shift = parameter(width), parameter(width)
        if spec.kind == "batch":
            self.mean: Tensor
            self.variance: Tensor
            self.register_buffer("mean", torch.empty(width))
            self.register_buffer("variance", torch.empty(width))

    def forward(
        self, x: Tensor, *, train: bool = False, total: Total | None = None
    ) -> tuple[Tensor, State]:
        """The normalised [..., C] and, of a batch norm in training, new running numbers."""
        epsilon = self.spec.epsilon
        if self.spec.kind != "batch":
            return getattr(norm, self.spec.kind)(x, self.scale, self.shift, epsilon=epsilon), {}
        y, mean, variance = norm.batch(
            x, self.scale, self.shift, self.mean, self.variance,
            train=train, keep=self.spec.keep, epsilon=epsilon, total=total,
        )  # fmt: skip
        return y, {"mean": mean, "variance": variance} if train else {}


def normalised(
    norm: Norm, x: Tensor, name: str, *, train: bool, tap: Tap, total: Total | None
) -> tuple[Tensor, State]:
    """What the norm of this name makes of [..., C], and new running numbers; a tap sees both."""
    y, state = norm(x, train=train, total=total)
    state = {f"{name}.{key}": tap(f"{name}.{key}", new) for key, new in state.items()}
    return tap(name, y), state


class NormalConv(Conv):
    """A convolution, an activation and a normalisation, in the order of the spec.

    Args:
        width: Channels of what it reads.
        layer: Its sizes.
        norm: The normalisation, and where it stands.
        slope: Of the activation below 0; None for no activation.
        compute: dtype of its products.
        method: "direct", "fourier" or "auto", as in `convolution.conv`.
        bias: Whether there is one.
        padding: As in `Conv`.
    """

    def __init__(
        self,
        width: int,
        layer: specs.Conv | specs.Primary,
        norm: specs.Norm,
        slope: float | None,
        compute: torch.dtype,
        method: specs.Method = "auto",
        bias: bool = True,
        padding: int | str = 0,
    ):
        sizes = width, layer.channels, layer.kernel, layer.stride
        super().__init__(*sizes, compute, method, bias, padding)
        self.norm, self.slope, self.biased = Norm(norm, layer.channels), slope, bias

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        x_BHWC: Tensor,
        name: str = "",
        *,
        train: bool = False,
        tap: Tap = no_tap,
        total: Total | None = None,
    ) -> tuple[Tensor, State]:
        """[B, H, W, in] -> [B, H', W', out], and new running numbers by the names of their rows.

        Args:
            x_BHWC: Images or a feature map.
            name: Of this layer in the table of weights.
            train: Whether this is a training step.
            tap: Sees NAME.conv, NAME.activation, NAME.norm and new running numbers.
            total: The sum over processes, as in `norm.batch`.
        """
        # In the dtype of the kernel from here on: half precision would lose a norm's variance.
        y = self.convolved(x_BHWC, tap).to(self.kernel.dtype)
        y = tap(f"{name}.conv", y + self.bias if self.biased else y)
        first = self.norm.spec.first
        if not first and self.slope is not None:
            y = tap(f"{name}.activation", leaky(y, self.slope))
        how: Any = {"train": train, "tap": tap, "total": total}
        y, state = normalised(self.norm, y, f"{name}.norm", **how)
        if first and self.slope is not None:
            y = tap(f"{name}.activation", leaky(y, self.slope))
        return y, state


class NormalStem(nn.ModuleList):
    """Normalised convolutions after the pixels: [B, H, W, C] -> [B, H', W', channels].

    Args:
        width: Channels of the images.
        layers: The convolutions' sizes.
        how: The other arguments of `NormalConv`, in its order.
    """

    __repr__ = one_line

    def __init__(self, width: int, layers: Sequence[specs.Conv], *how: Any):
        widths = [width, *(layer.channels for layer in layers)]
        super().__init__(
            NormalConv(width, layer, *how) for width, layer in zip(widths, layers, strict=False)
        )

    def forward(
        self,
        x_BHWC: Tensor,
        *,
        train: bool = False,
        tap: Tap = no_tap,
        total: Total | None = None,
    ) -> tuple[Tensor, State]:
        """The last feature map, and new running numbers; arguments as of `NormalConv`."""
        state: State = {}
        for n, layer in enumerate(self):
            x_BHWC, new = layer(x_BHWC, f"stem.{n}", train=train, tap=tap, total=total)
            state |= new
        return x_BHWC, state


def standardised(x_BHWC: Tensor, pixels: specs.Pixels, epsilon: float) -> Tensor:
    """What a network's first layer makes of images in [0, 1]: see `parity.spec.Pixels`."""
    x_BHWC = (x_BHWC - x_BHWC.new_tensor(pixels.mean)) / x_BHWC.new_tensor(pixels.deviation)
    if not pixels.own:
        return x_BHWC
    own = norm.layer if pixels.joint else norm.instance
    return own(x_BHWC, None, None, epsilon=epsilon)
