"""A normalisation that holds its numbers, the stem it is in, and the standardisation of pixels.

Axes: B batch, H W C image or feature map.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jax_caps import norm
from jax_caps.capsules import Tap, no_tap
from jax_caps.layers.stem import Conv, one_line, parameter
from jax_caps.norm import Total
from parity import spec as specs

State = dict[str, Array]


def leaky(x: Array, slope: float) -> Array:
    """Leaky relu: x where it is above 0, else slope * x; relu for a slope of 0."""
    return jax.nn.relu(x) if slope == 0 else jnp.where(x > 0, x, slope * x)


class Norm(nnx.Module):
    """A normalisation with its scale, its shift and, of a batch norm, its running numbers.

    Args:
        spec: Which one, and its options.
        width: Channels.
        affine: Whether it has a scale and a shift.
    """

    __repr__ = __str__ = one_line

    def __init__(self, spec: specs.Norm, width: int, affine: bool = True):
        self.spec, self.affine = spec, affine
        if affine:
            self.scale, self.shift = parameter(width), parameter(width)
        if spec.kind == "batch":
            self.mean, self.variance = (nnx.BatchStat(jnp.zeros(width)) for _ in range(2))

    def __call__(
        self, x: Array, *, train: bool = False, total: Total | None = None
    ) -> tuple[Array, State]:
        """The normalised [..., C] and, of a batch norm in training, new running numbers."""
        epsilon, scale, shift = self.spec.epsilon, None, None
        if self.affine:
            scale, shift = self.scale[...], self.shift[...]
        if self.spec.kind != "batch":
            return getattr(norm, self.spec.kind)(x, scale, shift, epsilon=epsilon), {}
        y, mean, variance = norm.batch(
            x, scale, shift, self.mean[...], self.variance[...],
            train=train, keep=self.spec.keep, epsilon=epsilon, total=total,
        )  # fmt: skip
        return y, {"mean": mean, "variance": variance} if train else {}


def normalised(
    norm: Norm, x: Array, name: str, *, train: bool, tap: Tap, total: Total | None
) -> tuple[Array, State]:
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
        compute: jnp.dtype,
        method: specs.Method = "auto",
        bias: bool = True,
        padding: int | str = 0,
    ):
        sizes = width, layer.channels, layer.kernel, layer.stride
        super().__init__(*sizes, compute, method, bias, padding)
        self.norm, self.slope, self.biased = Norm(norm, layer.channels), slope, bias

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        x_BHWC: Array,
        name: str = "",
        *,
        train: bool = False,
        tap: Tap = no_tap,
        total: Total | None = None,
    ) -> tuple[Array, State]:
        """[B, H, W, in] -> [B, H', W', out], and new running numbers by the names of their rows.

        Args:
            x_BHWC: Images or a feature map.
            name: Of this layer in the table of weights.
            train: Whether this is a training step.
            tap: Sees NAME.conv, NAME.activation, NAME.norm and new running numbers.
            total: The sum over processes, as in `norm.batch`.
        """
        # In the dtype of the kernel from here on: half precision would lose a norm's variance.
        y = self.convolved(x_BHWC, tap).astype(self.kernel.dtype)
        y = tap(f"{name}.conv", y + self.bias[None, None, None] if self.biased else y)
        first = self.norm.spec.first
        if not first and self.slope is not None:
            y = tap(f"{name}.activation", leaky(y, self.slope))
        how: Any = {"train": train, "tap": tap, "total": total}
        y, state = normalised(self.norm, y, f"{name}.norm", **how)
        if first and self.slope is not None:
            y = tap(f"{name}.activation", leaky(y, self.slope))
        return y, state


class NormalStem(nnx.List):
    """Normalised convolutions after the pixels: [B, H, W, C] -> [B, H', W', channels].

    Args:
        width: Channels of the images.
        layers: The convolutions' sizes.
        how: The other arguments of `NormalConv`, in its order.
    """

    __repr__ = __str__ = one_line

    def __init__(self, width: int, layers: Sequence[specs.Conv], *how: Any):
        widths = [width, *(layer.channels for layer in layers)]
        super().__init__(
            NormalConv(width, layer, *how) for width, layer in zip(widths, layers, strict=False)
        )

    def __call__(
        self,
        x_BHWC: Array,
        *,
        train: bool = False,
        tap: Tap = no_tap,
        total: Total | None = None,
    ) -> tuple[Array, State]:
        """The last feature map, and new running numbers; arguments as of `NormalConv`."""
        state: State = {}
        for n, layer in enumerate(self):
            x_BHWC, new = layer(x_BHWC, f"stem.{n}", train=train, tap=tap, total=total)
            state |= new
        return x_BHWC, state


def standardised(x_BHWC: Array, pixels: specs.Pixels, epsilon: float) -> Array:
    """What a network's first layer makes of images in [0, 1]: see `parity.spec.Pixels`."""
    mean, deviation = (
        jnp.asarray(each, x_BHWC.dtype)[None, None, None]
        for each in (pixels.mean, pixels.deviation)
    )
    x_BHWC = (x_BHWC - mean) / deviation
    if not pixels.own:
        return x_BHWC
    own = norm.layer if pixels.joint else norm.instance
    return own(x_BHWC, None, None, epsilon=epsilon)
