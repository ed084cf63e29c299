"""A convolution without padding, by its definition.

Axes: B batch, H W a feature map, C its channels.
"""

import numpy as np

from parity.reference.arrays import Array, double


def conv(x_BHWC, kernel, stride: int) -> Array:
    """A convolution without padding: [B, H, W, in] and [kh, kw, in, out] -> [B, H', W', out].

    y[b, h, w, o] = sum over (m, n, c) of x[b, h * stride + m, w * stride + n, c] kernel[m, n, c, o]
    """
    x_BHWC, kernel = double(x_BHWC), double(kernel)
    windows = np.lib.stride_tricks.sliding_window_view(x_BHWC, kernel.shape[:2], (1, 2))
    windows = windows[:, ::stride, ::stride]  # axes b h w c m n
    return np.tensordot(windows, kernel, ((4, 5, 3), (0, 1, 2)))
