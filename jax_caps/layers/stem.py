"""The stem: convolutions, each followed by relu.

Axes: B batch, H W C image or feature map. A kernel is HWIO, as canonical weights are; images are
NHWC.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jax_caps.capsules import Tap, no_tap
from jax_caps.convolution import conv, padded, same
from parity.spec import Method, NetworkSpec


def parameter(*shape: int) -> nnx.Param:
    """A parameter of this shape, to be filled by canonical weights."""
    return nnx.Param(jnp.zeros(shape))


def one_line(self: nnx.Module) -> str:
    """The `__repr__` of layers: name, shapes of kernels, how many numbers in all."""
    tensors = nnx.to_flat_state(nnx.state(self, (nnx.Param, nnx.BatchStat)))
    kernels = [(path, x) for path, x in tensors if x.ndim > 1] or tensors
    shapes = (f"{'.'.join(map(str, path))} {'x'.join(map(str, x.shape))}" for path, x in kernels)
    count = sum(x.size for _, x in tensors)
    return f"{type(self).__name__}({', '.join(shapes)}: {count:,})"


class Conv(nnx.Module):
    """A convolution with a kernel HWIO, and a bias unless it has none.

    Args:
        width: Channels of what it reads.
        out: Channels of what it makes.
        size: Height and width of the kernel.
        stride: Pixels, in both directions.
        compute: dtype of its products.
        method: "direct", "fourier" or "auto", as in `convolution.conv`.
        bias: Whether there is one.
        padding: Rows and columns of zeros on each side of what it reads; or "same", for as many as
            TensorFlow's padding of that name has.
    """

    __repr__ = __str__ = one_line

    def __init__(
        self,
        width: int,
        out: int,
        size: int,
        stride: int,
        compute: jnp.dtype,
        method: Method = "auto",
        bias: bool = True,
        padding: int | str = 0,
    ):
        self.kernel = parameter(size, size, width, out)
        if bias:
            self.bias = parameter(out)
        self.stride, self.compute = stride, compute
        self.method: Method = method
        self.padding = padding
        self.spectra = None  # of the kernel, where a Trainer has made them
        self.processes = 1  # that share a batch; a Trainer of several says so

    def __call__(self, x_BHWC: Array, tap: Tap = no_tap) -> Array:
        """[B, H, W, in] -> [B, H', W', out]; "auto" with a tap is direct."""
        return self.convolved(x_BHWC, tap, self.bias[...])

    def convolved(self, x_BHWC: Array, tap: Tap, bias: Array | None = None) -> Array:
        """The convolution, by the method asked for; "auto" is direct where a tap looks on."""
        method = "direct" if tap is not no_tap and self.method == "auto" else self.method
        x_BHWC = self._padded(x_BHWC)
        how = method, self.processes, self.spectra
        return conv(x_BHWC, self.kernel[...], self.stride, self.compute, bias, *how)

    def _padded(self, x_BHWC: Array) -> Array:
        if isinstance(self.padding, str):
            return same(x_BHWC, self.kernel.shape[0], self.stride)
        return padded(x_BHWC, self.padding) if self.padding else x_BHWC


class Stem(nnx.List):
    """Convolutions, each followed by relu: [B, H, W, C] -> [B, H', W', channels]."""

    __repr__ = __str__ = one_line

    def __init__(self, spec: NetworkSpec, compute: jnp.dtype, method: Method = "auto"):
        widths = [spec.image[2], *(layer.channels for layer in spec.stem)]
        super().__init__(
            Conv(width, layer.channels, layer.kernel, layer.stride, compute, method)
            for width, layer in zip(widths, spec.stem, strict=False)
        )

    def __call__(self, x_BHWC: Array, tap: Tap = no_tap) -> Array:
        """The last feature map; `tap` sees each as stem.0, stem.1 and so on."""
        for n, layer in enumerate(self):
            x_BHWC = tap(f"stem.{n}", jax.nn.relu(layer(x_BHWC, tap)))
        return x_BHWC
