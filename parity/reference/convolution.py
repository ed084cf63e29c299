"""Convolutions without padding, by their definition, and an image at twice its size.

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


def depthwise(x_BHWC, kernel, stride: int) -> Array:
    """A convolution of each channel by a filter of its own, without padding.

    y[b, h, w, c] = sum over (m, n) of x[b, h * stride + m, w * stride + n, c] kernel[m, n, c]

    Args:
        x_BHWC: A feature map.
        kernel: [kh, kw, C].
        stride: Pixels, in both directions.

    Returns:
        [B, H', W', C], where H' is (H - kh) // stride + 1, and W' alike.
    """
    x_BHWC, kernel = double(x_BHWC), double(kernel)
    windows = np.lib.stride_tricks.sliding_window_view(x_BHWC, kernel.shape[:2], (1, 2))
    windows = windows[:, ::stride, ::stride]  # axes b h w c m n
    return np.einsum("bhwcmn,mnc->bhwc", windows, kernel)


def double_size(x_BHWC) -> Array:
    """An image at twice its height and width, by bilinear interpolation.

    Pixels have half-pixel centres: a new one lies a quarter of a pixel from one old one and three
    quarters from the next, and beyond the edge the image goes on as it ends.

    Args:
        x_BHWC: Images or a feature map.

    Returns:
        [B, 2 H, 2 W, C].
    """
    x_BHWC = double(x_BHWC)
    for axis in (1, 2):
        size = x_BHWC.shape[axis]
        before = x_BHWC.take(np.maximum(np.arange(size) - 1, 0), axis)
        after = x_BHWC.take(np.minimum(np.arange(size) + 1, size - 1), axis)
        pair = 0.25 * before + 0.75 * x_BHWC, 0.75 * x_BHWC + 0.25 * after
        shape = (*x_BHWC.shape[:axis], 2 * size, *x_BHWC.shape[axis + 1 :])
        x_BHWC = np.stack(pair, axis + 1).reshape(shape)
    return x_BHWC
