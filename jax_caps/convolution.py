"""Convolutions without padding, direct or by Fourier transform; an image at twice its size.

Axes: B batch, N images of a block of it, H W a feature map, C its channels.

XLA's convolution is slow on CPU, and its gradient by a factor of fifty. There, an image becomes
patches, a column for each place of the kernel, and the convolution one product of matrices. That
is done for a block of images and a strip of the kernel's rows at a time, so that the patches stay
in cache and never grow with the batch.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_caps import fourier
from parity.spec.convolution import Method, Sizes, by_fourier, same_padding, transposed_cut

# Numbers in a block's patches: 6 MiB of float32, what a core's share of the last cache holds.
_BLOCK = 3 * 2**19
# A product of patches is efficient from about this width on.
_WIDTH = 256


def conv(
    x_BHWC: Array,
    kernel: Array,
    stride: int,
    compute: jnp.dtype,
    bias: Array | None = None,
    method: Method = "auto",
    processes: int = 1,
    spectra: list[Array] | None = None,
) -> Array:
    """A convolution without padding.

    Args:
        x_BHWC: Images or a feature map, [B, H, W, in].
        kernel: [kh, kw, in, out], HWIO as canonical weights are.
        stride: Pixels, in both directions.
        compute: dtype that it is computed in, and of the result.
        bias: [out], added to every place.
        method: "direct", "fourier", or "auto": by Fourier transform where the sizes gain by it. On
            a GPU, in bfloat16 and on grids of over 2,048 points it is direct all the same.
        processes: How many share a batch, each with as many images as this one.
        spectra: Of this kernel, as `fourier.spectra` makes them; without a gradient.

    Returns:
        [B, H', W', out], where H' is (H - kh) // stride + 1, and W' alike.
    """
    of = fourier.sizes(x_BHWC, kernel, stride)
    fast = chosen(of, x_BHWC.shape[0] * processes, compute, method)

    def cpu(x: Array, k: Array, known: list[Array] | None) -> Array:
        return fourier.conv(x, k, stride, known) if fast else _by_products(x, k, stride)

    y = lax.platform_dependent(
        x_BHWC.astype(compute),
        kernel.astype(compute),
        spectra if fast else None,
        cpu=cpu,
        default=lambda x, k, known: _by_library(x, k, stride),
    )
    # Not in bfloat16: the gradient of a bias is a sum over every place.
    if bias is not None:
        y = (y.astype(bias.dtype) + bias[None, None, None]).astype(compute)
    return y


def chosen(of: Sizes, batch: int, compute: jnp.dtype, method: Method) -> bool:
    """Whether a batch of all processes goes by Fourier transform, on a CPU."""
    return compute in (jnp.float32, jnp.float64) and by_fourier(method, of, batch)


def _by_library(x_BHWC: Array, kernel: Array, stride: int) -> Array:
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x_BHWC, kernel, (stride, stride), "VALID", dimension_numbers=axes
    )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _by_products(x_BHWC: Array, kernel: Array, stride: int) -> Array:
    """The convolution as products of matrices, block by block and strip by strip."""
    height, width = _places(x_BHWC, kernel, stride)
    out = kernel.shape[3]

    def block(x_NHWC: Array) -> Array:
        # A row for each place of the result; each strip of the kernel adds its part to all.
        y = jnp.zeros((x_NHWC.shape[0] * height * width, out), _wide(x_NHWC))
        for rows in _strips(kernel):
            columns = _columns(x_NHWC, rows, kernel, stride)
            y = y + _product(columns, _matrix(kernel, rows), (1, 0))
        return y.reshape(-1, height, width, out).astype(x_NHWC.dtype)

    # One block at a time, without the images that fill up the last one.
    y = lax.map(block, _blocks(x_BHWC, x_BHWC, kernel, stride))
    return y.reshape(-1, height, width, out)[: x_BHWC.shape[0]]


def _forward(x_BHWC: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return _by_products(x_BHWC, kernel, stride), (x_BHWC, kernel)


def _backward(stride: int, residuals: tuple[Array, Array], dy_BHWC: Array) -> tuple[Array, Array]:
    """The gradients of x and of the kernel, from that of the result."""
    x_BHWC, kernel = residuals
    strips, (size_w, channels, out) = _strips(kernel), kernel.shape[1:]

    def block(sums: tuple[Array, ...], part: tuple[Array, Array]):
        x_NHWC, dy_NHWC = part
        dy, parts = dy_NHWC.reshape(-1, out), []
        for rows, total in zip(strips, sums, strict=True):
            # [out, patch], transposed: the other way round, memory is read against its order.
            parts.append(total + _product(dy, _columns(x_NHWC, rows, kernel, stride), (0, 0)))
        return tuple(parts), _input_gradient(x_NHWC, dy_NHWC, kernel, stride)

    # The kernel's gradient is summed over the blocks; that of x comes out block by block.
    zeros = tuple(jnp.zeros((out, len(rows) * size_w * channels), _wide(kernel)) for rows in strips)
    x_blocks, dy_blocks = (_blocks(array, x_BHWC, kernel, stride) for array in (x_BHWC, dy_BHWC))
    sums, dx = lax.scan(block, zeros, (x_blocks, dy_blocks))
    # Strips side by side are the kernel again.
    parts = [
        total.T.reshape(len(rows), size_w, channels, out)
        for rows, total in zip(strips, sums, strict=True)
    ]
    dx_BHWC = dx.reshape(-1, *x_BHWC.shape[1:])[: x_BHWC.shape[0]]
    return dx_BHWC, jnp.concatenate(parts).astype(kernel.dtype)


_by_products.defvjp(_forward, _backward)


def _input_gradient(x_NHWC: Array, dy_NHWC: Array, kernel: Array, stride: int) -> Array:
    """The gradient of x: each place (i, j) of the kernel adds to its own patch.

    A place touches every `stride`-th row and column of x, so that x falls into stride * stride
    phases. Each is kept as an array of its own, in which a patch is a plain rectangle, and adding
    to that is done in place.
    """
    images, height, width, channels = x_NHWC.shape
    rectangle = (images, *_places(x_NHWC, kernel, stride), channels)
    phase = (images, -(-height // stride), -(-width // stride), channels)
    phases = {(i, j): jnp.zeros(phase, _wide(x_NHWC)) for i in range(stride) for j in range(stride)}
    dy = dy_NHWC.reshape(-1, kernel.shape[3])
    # dy kernel^T gives the shares of all places of a strip; each goes to its phase.
    for rows in _strips(kernel):
        columns = _product(dy, _matrix(kernel, rows), (1, 1)).reshape(*rectangle[:3], -1, channels)
        for n, (i, j) in enumerate((i, j) for i in rows for j in range(kernel.shape[1])):
            at, key = (0, i // stride, j // stride, 0), (i % stride, j % stride)
            patch = lax.dynamic_slice(phases[key], at, rectangle) + columns[:, :, :, n]
            phases[key] = lax.dynamic_update_slice(phases[key], patch, at)
    # Phases interleaved are x again, rounded up to whole strides.
    rows = [jnp.stack([phases[i, j] for j in range(stride)], 3) for i in range(stride)]
    whole = jnp.stack(rows, 2).reshape(images, phase[1] * stride, phase[2] * stride, channels)
    return whole[:, :height, :width].astype(x_NHWC.dtype)


def _places(x_BHWC: Array, kernel: Array, stride: int) -> tuple[int, int]:
    """Height and width of what the convolution makes."""
    (height, width), (size_h, size_w) = x_BHWC.shape[1:3], kernel.shape[:2]
    return (height - size_h) // stride + 1, (width - size_w) // stride + 1


def _strips(kernel: Array) -> list[range]:
    """The kernel's rows, as many together as make a product wide enough."""
    size_h, size_w, channels, _ = kernel.shape
    together = -(-_WIDTH // (size_w * channels))
    return [range(top, min(top + together, size_h)) for top in range(0, size_h, together)]


def _matrix(kernel: Array, rows: range) -> Array:
    return kernel[rows.start : rows.stop].reshape(-1, kernel.shape[3])


def _columns(x_NHWC: Array, rows: range, kernel: Array, stride: int) -> Array:
    """The patches of a strip: [N * H * W, rows * kernel width * C]."""
    height, width = _places(x_NHWC, kernel, stride)
    reach_h, reach_w = (height - 1) * stride + 1, (width - 1) * stride + 1
    patches = [
        x_NHWC[:, i : i + reach_h : stride, j : j + reach_w : stride]
        for i in rows
        for j in range(kernel.shape[1])
    ]
    return jnp.concatenate(patches, -1).reshape(x_NHWC.shape[0] * height * width, -1)


def _blocks(array: Array, x_BHWC: Array, kernel: Array, stride: int) -> Array:
    """The images of an array in blocks, [blocks, N, ...]; zeros fill the last one."""
    height, width = _places(x_BHWC, kernel, stride)
    columns = len(_strips(kernel)[0]) * kernel.shape[1] * kernel.shape[2]
    fit = max(1, _BLOCK // (height * width * max(columns, kernel.shape[3])))
    count = -(-x_BHWC.shape[0] // fit)
    images = -(-x_BHWC.shape[0] // count)  # blocks of equal size need the least filling up
    pad = [(0, count * images - array.shape[0])] + [(0, 0)] * (array.ndim - 1)
    return jnp.pad(array, pad).reshape(count, images, *array.shape[1:])


def _wide(x: Array) -> jnp.dtype:
    """What a sum of products is kept in: float32 for bfloat16."""
    return jnp.promote_types(x.dtype, jnp.float32)


def _product(a: Array, b: Array, over: tuple[int, int]) -> Array:
    """The product of matrices, summed over axis over[0] of a and over[1] of b."""
    axes = (((over[0],), (over[1],)), ((), ()))
    return lax.dot_general(a, b, axes, preferred_element_type=_wide(a))


def depthwise(x_BHWC: Array, kernel: Array, stride: int) -> Array:
    """A convolution of each channel by a filter of its own, without padding.

    Args:
        x_BHWC: A feature map.
        kernel: [kh, kw, C].
        stride: Pixels, in both directions.

    Returns:
        [B, H', W', C], where H' is (H - kh) // stride + 1, and W' alike.
    """
    (height, width), (size_h, size_w) = _places(x_BHWC, kernel, stride), kernel.shape[:2]
    # A slice for each place: of these there are few, one where the kernel is as large as the map.
    windows = [
        x_BHWC[:, h * stride : h * stride + size_h, w * stride : w * stride + size_w]
        for h in range(height)
        for w in range(width)
    ]
    y = jnp.einsum("bpmnc,mnc->bpc", jnp.stack(windows, 1), kernel)
    return y.reshape(x_BHWC.shape[0], height, width, -1)


def padded(x_BHWC: Array, padding: int) -> Array:
    """A map with `padding` rows and columns of zeros on each side; any axes after H and W."""
    sides = [(0, 0), (padding, padding), (padding, padding)]
    return jnp.pad(x_BHWC, sides + [(0, 0)] * (x_BHWC.ndim - 3))


def same(x_BHWC: Array, kernel: int, stride: int) -> Array:
    """A map with zeros around it, as TensorFlow's padding 'same' has them.

    A convolution of this kernel and stride then makes H / stride by W / stride places, rounded up.

    Args:
        x_BHWC: A feature map.
        kernel: Height and width of the kernel.
        stride: Pixels, in both directions.
    """
    rows, columns = (same_padding(size, kernel, stride) for size in x_BHWC.shape[1:3])
    return jnp.pad(x_BHWC, [(0, 0), rows, columns, (0, 0)])


def transposed(
    x_BHWC: Array,
    kernel: Array,
    stride: int,
    compute: jnp.dtype,
    bias: Array | None = None,
) -> Array:
    """A transposed convolution, `stride` times as large, with the edges of TensorFlow's 'same'.

    y[b, s h + m, s w + n, o] is the sum over (h, w, c) of x[b, h, w, c] kernel[m, n, c, o], cut to
    s H by s W from (size - s) // 2 on, where size is that of the kernel.

    Args:
        x_BHWC: A feature map, [B, H, W, in].
        kernel: [kh, kw, in, out].
        stride: Pixels, in both directions, at most the kernel's size.
        compute: dtype that it is computed in, and of the result.
        bias: [out], added to every place.

    Returns:
        [B, stride * H, stride * W, out].
    """
    (height, width), (rows, columns) = x_BHWC.shape[1:3], kernel.shape[:2]
    # As the gradient of a convolution by products: what each place adds to its window.
    x, wide = x_BHWC.astype(compute), jnp.promote_types(compute, jnp.float32)
    y = jnp.einsum("bhwc,mnco->bhwmno", x, kernel.astype(compute), preferred_element_type=wide)
    y = y.reshape(*y.shape[:3], rows * columns, -1)
    whole = (height - 1) * stride + rows, (width - 1) * stride + columns
    y = overlap(y, whole, (rows, columns), stride)
    down, across = (
        slice(*transposed_cut(size, taps, stride))
        for size, taps in zip(x_BHWC.shape[1:3], kernel.shape[:2], strict=True)
    )
    y = y[:, down, across]
    # Not in bfloat16: the gradient of a bias is a sum over every place.
    return (y if bias is None else y + bias[None, None, None]).astype(compute)


def windows(x_BHWC: Array, kernel: tuple[int, int], stride: int) -> Array:
    """The windows of a map, without padding: its slices, shifted by each place of the kernel.

    Args:
        x_BHWC: [B, H, W, ...].
        kernel: Height and width of a window.
        stride: Places from one window to the next, in both directions.

    Returns:
        [B, H', W', kh * kw, ...], the places of a window row by row.
    """
    rows, columns = (
        [slice(tap, tap + size - taps + 1, stride) for tap in range(taps)]
        for size, taps in zip(x_BHWC.shape[1:3], kernel, strict=True)
    )
    return jnp.stack([x_BHWC[:, row, column] for row in rows for column in columns], 3)


def overlap(
    x_BYXM: Array,
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
    smallest = jnp.finfo(x_BYXM.dtype).min if largest else 0.0
    empty = jnp.asarray(smallest, x_BYXM.dtype)
    total = jnp.full((x_BYXM.shape[0], *grid, *x_BYXM.shape[4:]), empty)
    # A padded array for each place of the kernel: no scatter, whose order on a GPU is not fixed.
    for place in range(x_BYXM.shape[3]):
        sides = [(0, 0, 0)] * (total.ndim)
        for axis, (tap, count, size) in enumerate(
            zip(divmod(place, kernel[1]), x_BYXM.shape[1:3], grid, strict=True), 1
        ):
            sides[axis] = (tap, size - tap - (count - 1) * stride - 1, stride - 1)
        here = lax.pad(x_BYXM[:, :, :, place], empty, sides)
        total = jnp.maximum(total, here) if largest else total + here
    return total


def double_size(x_BHWC: Array) -> Array:
    """An image at twice its height and width, by bilinear interpolation.

    Pixels have half-pixel centres: a new one lies a quarter of a pixel from one old one and three
    quarters from the next, and beyond the edge the image goes on as it ends.

    Args:
        x_BHWC: Images or a feature map.

    Returns:
        [B, 2 H, 2 W, C].
    """
    for axis in (1, 2):
        size = x_BHWC.shape[axis]
        part = partial(lax.slice_in_dim, x_BHWC, axis=axis)
        before = jnp.concatenate([part(0, 1), part(0, size - 1)], axis)
        after = jnp.concatenate([part(1, size), part(size - 1, size)], axis)
        pair = [0.25 * before + 0.75 * x_BHWC, 0.75 * x_BHWC + 0.25 * after]
        shape = (*x_BHWC.shape[:axis], 2 * size, *x_BHWC.shape[axis + 1 :])
        x_BHWC = jnp.stack(pair, axis + 1).reshape(shape)
    return x_BHWC
