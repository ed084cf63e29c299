"""A convolution without padding, by its definition.

Axes: B batch, H W a feature map, C its channels.
"""

import numpy as np

from parity.reference.arrays import Array, double


def conv(x_BHWC, kernel, stride: int) -> Array:
    """A convolution without padding.

    y[b, h, w, o] = sum over (m, n, c) of x[b, h * stride + m, w * stride + n, c] kernel[m, n, c, o]

    Args:
        x_BHWC: Images or a feature map, [B, H, W, in].
        kernel: [kh, kw, in, out].
        stride: Pixels, in both directions.

    Returns:
        [B, H', W', out], where H' is (H - kh) // stride + 1, and W' alike.
    """
    x_BHWC, kernel = double(x_BHWC), double(kernel)
    windows = np.lib.stride_tricks.sliding_window_view(x_BHWC, kernel.shape[:2], (1, 2))
    windows = windows[:, ::stride, ::stride]  # axes b h w c m n
    return np.tensordot(windows, kernel, ((4, 5, 3), (0, 1, 2)))
