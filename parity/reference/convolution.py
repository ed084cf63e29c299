"""Convolutions without padding, by their definition, and an image at twice its size.

Axes: B batch, H W a feature map, C its channels.
"""

import numpy as np

from parity.reference.arrays import Array, double
from parity.spec.convolution import same_padding, transposed_cut


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


def padded(x_BHWC, padding: int) -> Array:
    """A map with `padding` rows and columns of zeros on each side; any axes after H and W."""
    x_BHWC = double(x_BHWC)
    sides = [(0, 0), (padding, padding), (padding, padding)]
    return np.pad(x_BHWC, sides + [(0, 0)] * (x_BHWC.ndim - 3))


def same(x_BHWC, kernel: int, stride: int) -> Array:
    """A map with zeros around it, as TensorFlow's padding 'same' has them.

    A convolution of this kernel and stride then makes H / stride by W / stride places, rounded up.

    Args:
        x_BHWC: A feature map.
        kernel: Height and width of the kernel.
        stride: Pixels, in both directions.
    """
    x_BHWC = double(x_BHWC)
    rows, columns = (same_padding(size, kernel, stride) for size in x_BHWC.shape[1:3])
    return np.pad(x_BHWC, [(0, 0), rows, columns, (0, 0)])


def transposed(x_BHWC, kernel, stride: int) -> Array:
    """A transposed convolution, `stride` times as large, with the edges of TensorFlow's 'same'.

    y[b, s h + m, s w + n, o] is the sum over (h, w, c) of x[b, h, w, c] kernel[m, n, c, o], cut to
    s H by s W from (size - s) // 2 on, where size is that of the kernel.

    Args:
        x_BHWC: A feature map, [B, H, W, in].
        kernel: [kh, kw, in, out].
        stride: Pixels, in both directions, at most the kernel's size.

    Returns:
        [B, stride * H, stride * W, out].
    """
    x_BHWC, kernel = double(x_BHWC), double(kernel)
    batch, height, width, _ = x_BHWC.shape
    rows, columns, _, out = kernel.shape
    whole = (batch, (height - 1) * stride + rows, (width - 1) * stride + columns, out)
    y = np.zeros(whole, np.result_type(x_BHWC, kernel))
    for h, w in np.ndindex(height, width):
        window = np.tensordot(x_BHWC[:, h, w], kernel, ((1,), (2,)))  # axes b m n o
        y[:, h * stride : h * stride + rows, w * stride : w * stride + columns] += window
    down, across = (
        slice(*transposed_cut(size, taps, stride))
        for size, taps in zip((height, width), (rows, columns), strict=True)
    )
    return y[:, down, across]


def windows(x_BHWC, kernel: tuple[int, int], stride: int) -> Array:
    """The windows of a map, without padding: its slices, shifted by each place of the kernel.

    Args:
        x_BHWC: [B, H, W, ...].
        kernel: Height and width of a window.
        stride: Places from one window to the next, in both directions.

    Returns:
        [B, H', W', kh * kw, ...], the places of a window row by row.
    """
    x_BHWC = double(x_BHWC)
    found = np.lib.stride_tricks.sliding_window_view(x_BHWC, kernel, (1, 2))
    found = np.moveaxis(found[:, ::stride, ::stride], (-2, -1), (3, 4))
    return found.reshape(*found.shape[:3], -1, *x_BHWC.shape[3:])


def overlap(
    x_BYXM,
    grid: tuple[int, int],
    kernel: tuple[int, int],
    stride: int,
    largest: bool = False,
) -> Array:
    """The sum over all windows that hold a place, or the largest: `windows` the other way round.

    Args:
        x_BYXM: A number for each place of each window, [B, H', W', kh * kw, ...].
        grid: Height and width of the map.
        kernel: Height and width of a window.
        stride: Places from one window to the next, in both directions.
        largest: Whether the largest is taken, without a gradient, instead of the sum.

    Returns:
        [B, H, W, ...]; a place in no window has 0, or the smallest number.
    """
    x_BYXM = double(x_BYXM)
    batch, rows, columns = x_BYXM.shape[:3]
    first = np.finfo(np.float64).min if largest else 0
    total = np.full((batch, *grid, *x_BYXM.shape[4:]), first, x_BYXM.dtype)
    for y, x, m, n in np.ndindex(rows, columns, *kernel):
        h, w, each = y * stride + m, x * stride + n, x_BYXM[:, y, x, m * kernel[1] + n]
        seen = total[:, h, w]
        total[:, h, w] = (
            np.where(np.real(each) > np.real(seen), each, seen) if largest else (seen + each)
        )
    return total


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
