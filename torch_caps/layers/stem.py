"""The stem: convolutions, each followed by relu.

Axes: B batch, H W C image or feature map. A kernel is OIHW, as torch has it; images are NHWC.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity.spec import Method, NetworkSpec
from torch_caps.capsules import Tap, no_tap
from torch_caps.convolution import conv, padded, same


def parameter(*shape: int) -> nn.Parameter:
    """A parameter of this shape, to be filled by canonical weights."""
    return nn.Parameter(torch.empty(shape))


def one_line(self: nn.Module) -> str:
    """The `__repr__` of layers: name, shapes of kernels, how many numbers in all."""
    tensors = [*self.named_parameters(), *self.named_buffers()]
    kernels = [(name, x) for name, x in tensors if x.ndim > 1] or tensors
    shapes = (f"{name} {'x'.join(map(str, x.shape))}" for name, x in kernels)
    count = sum(x.numel() for _, x in tensors)
    return f"{type(self).__name__}({', '.join(shapes)}: {count:,})"


class Conv(nn.Module):
    """A convolution with a kernel OIHW, and a bias unless it has none.

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

    __repr__ = one_line

    def __init__(
        self,
        width: int,
        out: int,
        size: int,
        stride: int,
        compute: torch.dtype,
        method: Method = "auto",
        bias: bool = True,
        padding: int | str = 0,
    ):
        super().__init__()
        kernel = torch.empty(out, size, size, width)  # in memory, as the convolution reads it
        self.kernel = nn.Parameter(kernel.permute(0, 3, 1, 2))
        if bias:
            self.bias = parameter(out)
        self.stride, self.compute = stride, compute
        self.method: Method = method
        self.padding = padding
        self.processes = 1  # that share a batch; a Trainer of several says so

    def forward(self, x_BHWC: Tensor, tap: Tap = no_tap) -> Tensor:
        """[B, H, W, in] -> [B, H', W', out]; "auto" with a tap is direct."""
        return self.convolved(x_BHWC, tap, self.bias)

    def convolved(self, x_BHWC: Tensor, tap: Tap, bias: Tensor | None = None) -> Tensor:
        """The convolution, by the method asked for; "auto" is direct where a tap looks on."""
        method = "direct" if tap is not no_tap and self.method == "auto" else self.method
        x_BHWC = self._padded(x_BHWC)
        how = method, self.processes
        return conv(x_BHWC, self.kernel, self.stride, self.compute, bias, *how)

    def _padded(self, x_BHWC: Tensor) -> Tensor:
        if isinstance(self.padding, str):
            return same(x_BHWC, self.kernel.shape[2], self.stride)
        return padded(x_BHWC, self.padding) if self.padding else x_BHWC


class Stem(nn.ModuleList):
    """Convolutions, each followed by relu: [B, H, W, C] -> [B, H', W', channels]."""

    __repr__ = one_line

    def __init__(self, spec: NetworkSpec, compute: torch.dtype, method: Method = "auto"):
        widths = [spec.image[2], *(layer.channels for layer in spec.stem)]
        super().__init__(
            Conv(width, layer.channels, layer.kernel, layer.stride, compute, method)
            for width, layer in zip(widths, spec.stem, strict=False)
        )

    def forward(self, x_BHWC: Tensor, tap: Tap = no_tap) -> Tensor:
        """The last feature map; `tap` sees each as stem.0, stem.1 and so on."""
        for n, layer in enumerate(self):
            x_BHWC = tap(f"stem.{n}", F.relu(layer(x_BHWC, tap)))
        return x_BHWC
