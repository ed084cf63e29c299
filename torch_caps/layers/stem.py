"""The stem: convolutions, each followed by relu.

Axes: B batch, H W C image or feature map. A kernel is OIHW, as torch has it; images are NHWC.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity.spec import Sabour2017
from torch_caps.capsules import Tap, no_tap
from torch_caps.convolution import conv, padded


def parameter(*shape: int) -> nn.Parameter:
    """A parameter of this shape, to be filled by canonical weights."""
    return nn.Parameter(torch.empty(shape))


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
        padding: Rows and columns of zeros on each side of what it reads.
    """

    def __init__(
        self,
        width: int,
        out: int,
        size: int,
        stride: int,
        compute: torch.dtype,
        method: str = "auto",
        bias: bool = True,
        padding: int = 0,
    ):
        super().__init__()
        kernel = torch.empty(out, size, size, width)  # in memory, as the convolution reads it
        self.kernel = nn.Parameter(kernel.permute(0, 3, 1, 2))
        if bias:
            self.bias = parameter(out)
        self.stride, self.compute, self.method = stride, compute, method
        self.padding = padding
        self.processes = 1  # that share a batch; a Trainer of several says so

    def forward(self, x_BHWC: Tensor, tap: Tap = no_tap) -> Tensor:
        """[B, H, W, in] -> [B, H', W', out]; with a tap, directly."""
        return self.convolved(x_BHWC, tap, self.bias)

    def convolved(self, x_BHWC: Tensor, tap: Tap, bias: Tensor | None = None) -> Tensor:
        """The convolution, by the method asked for where no tap looks on."""
        method = self.method if tap is no_tap else "direct"
        x_BHWC = padded(x_BHWC, self.padding) if self.padding else x_BHWC
        how = method, self.processes
        return conv(x_BHWC, self.kernel, self.stride, self.compute, bias, *how)


class Stem(nn.ModuleList):
    """Convolutions, each followed by relu: [B, H, W, C] -> [B, H', W', channels]."""

    def __init__(self, spec: Sabour2017, compute: torch.dtype, method: str = "auto"):
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
