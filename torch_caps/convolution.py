"""Convolutions without padding, direct or by Fourier transform; an image at twice its size.

Axes: B images of a batch, H W a feature map, C its channels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from parity.spec.convolution import Method, Sizes, by_fourier, same_padding, transposed_cut
from torch_caps import fourier
from torch_caps.numerics import _uncompiled


def conv(
    x_BHWC: Tensor,
    kernel: Tensor,
    stride: int,
    compute: torch.dtype,
    bias: Tensor | None = None,
    method: Method = "auto",
    processes: int = 1,
    spectra: list[Tensor] | None = None,
) -> Tensor:
    """A convolution without padding.

    Args:
        x_BHWC: Images or a feature map, [B, H, W, in].
        kernel: [out, in, kh, kw], OIHW as torch has it.
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
    return _conv(x_BHWC, kernel, stride, compute, bias, method, processes, spectra)


def _eager(
    x_BHWC: Tensor,
    kernel: Tensor,
    stride: int,
    compute: torch.dtype,
    bias: Tensor | None,
    method: Method,
    processes: int,
    spectra: list[Tensor] | None,
) -> Tensor:
    # Under autocast a convolution is for the library, which computes it in fewer bits.
    device, of = x_BHWC.device.type, fourier.sizes(x_BHWC, kernel, stride)
    here = device == "cpu" and not torch.is_autocast_enabled(device)
    if here and chosen(of, x_BHWC.shape[0] * processes, compute, method):
        y_BHWC = fourier.conv(x_BHWC.to(compute), kernel.to(compute), stride, spectra)
        return y_BHWC if bias is None else y_BHWC + bias.to(compute)
    # The permuted view is what torch calls channels_last: no copy, and oneDNN's fastest layout.
    x, bias = x_BHWC.permute(0, 3, 1, 2).to(compute), None if bias is None else bias.to(compute)
    return F.conv2d(x, kernel.to(compute), bias, stride=stride).permute(0, 2, 3, 1)


def chosen(of: Sizes, batch: int, compute: torch.dtype, method: Method) -> bool:
    """Whether a batch of all processes goes by Fourier transform, on a CPU."""
    return compute in (torch.float32, torch.float64) and by_fourier(method, of, batch)


# A compiler that sees the permutations chooses layouts of its own, which are slower.
_conv = _uncompiled(_eager)


def depthwise(x_BHWC: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """A convolution of each channel by a filter of its own, without padding.

    Args:
        x_BHWC: A feature map.
        kernel: [C, kh, kw].
        stride: Pixels, in both directions.

    Returns:
        [B, H', W', C], where H' is (H - kh) // stride + 1, and W' alike.
    """
    windows = x_BHWC.unfold(1, kernel.shape[1], stride).unfold(2, kernel.shape[2], stride)
    return torch.einsum("bhwcmn,cmn->bhwc", windows, kernel)


def padded(x_BHWC: Tensor, padding: int) -> Tensor:
    """A map with `padding` rows and columns of zeros on each side; any axes after H and W."""
    return F.pad(x_BHWC, (0, 0) * (x_BHWC.ndim - 3) + (padding,) * 4)


def same(x_BHWC: Tensor, kernel: int, stride: int) -> Tensor:
    """A map with zeros around it, as TensorFlow's padding 'same' has them.

    A convolution of this kernel and stride then makes H / stride by W / stride places, rounded up.

    Args:
        x_BHWC: A feature map.
        kernel: Height and width of the kernel.
        stride: Pixels, in both directions.
    """
    rows, columns = (same_padding(size, kernel, stride) for size in x_BHWC.shape[1:3])
    return F.pad(x_BHWC, (0, 0, *columns, *rows))


def transposed(
    x_BHWC: Tensor,
    kernel: Tensor,
    stride: int,
    compute: torch.dtype,
    bias: Tensor | None = None,
) -> Tensor:
    """A transposed convolution, `stride` times as large, with the edges of TensorFlow's 'same'.

    y[b, s h + m, s w + n, o] is the sum over (h, w, c) of x[b, h, w, c] kernel[m, n, c, o], cut to
    s H by s W from (size - s) // 2 on, where size is that of the kernel.

    Args:
        x_BHWC: A feature map, [B, H, W, in].
        kernel: [out, in, kh, kw].
        stride: Pixels, in both directions, at most the kernel's size.
        compute: dtype that it is computed in, and of the result.
        bias: [out], added to every place.

    Returns:
        [B, stride * H, stride * W, out].
    """
    x, kernel = x_BHWC.permute(0, 3, 1, 2).to(compute), kernel.to(compute).transpose(0, 1)
    bias = None if bias is None else bias.to(compute)
    y = F.conv_transpose2d(x, kernel, bias, stride=stride).permute(0, 2, 3, 1)
    rows, columns = (
        slice(*transposed_cut(size, taps, stride))
        for size, taps in zip(x_BHWC.shape[1:3], kernel.shape[2:], strict=True)
    )
    return y[:, rows, columns]


def windows(x_BHWC: Tensor, kernel: tuple[int, int], stride: int) -> Tensor:
    """The windows of a map, without padding: its slices, shifted by each place of the kernel.

    Args:
        x_BHWC: [B, H, W, ...].
        kernel: Height and width of a window.
        stride: Places from one window to the next, in both directions.

    Returns:
        [B, H', W', kh * kw, ...], the places of a window row by row.
    """
    unfolded = x_BHWC.unfold(1, kernel[0], stride).unfold(2, kernel[1], stride)
    shape = *unfolded.shape[:3], math.prod(kernel), *x_BHWC.shape[3:]
    return unfolded.movedim((-2, -1), (3, 4)).reshape(shape)


def overlap(
    x_BYXM: Tensor,
    grid: tuple[int, int],
    kernel: tuple[int, int],
    stride: int,
    largest: bool = False,
) -> Tensor:
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
    shape = (x_BYXM.shape[0], *grid, *x_BYXM.shape[4:])
    if not largest:
        # A column for each window, a row for each type and place in it: so `fold` takes them.
        columns = x_BYXM.flatten(4).permute(0, 4, 3, 1, 2).flatten(1, 2).flatten(2)
        height, width = (
            stride * (count - 1) + size
            for count, size in zip(x_BYXM.shape[1:3], kernel, strict=True)
        )
        total = F.fold(columns, (height, width), kernel, stride=stride)
        total = F.pad(total, (0, grid[1] - width, 0, grid[0] - height))
        return total.movedim(1, -1).reshape(shape)
    total = x_BYXM.new_full(shape, torch.finfo(x_BYXM.dtype).min)
    for place, x_BYX in enumerate(x_BYXM.unbind(3)):
        rows, columns = (
            slice(tap, tap + (count - 1) * stride + 1, stride)
            for tap, count in zip(divmod(place, kernel[1]), x_BYX.shape[1:3], strict=True)
        )
        here = total[:, rows, columns]
        total[:, rows, columns] = torch.maximum(here, x_BYX)
    return total


def double_size(x_BHWC: Tensor) -> Tensor:
    """An image at twice its height and width, by bilinear interpolation.

    Pixels have half-pixel centres: a new one lies a quarter of a pixel from one old one and three
    quarters from the next, and beyond the edge the image goes on as it ends. Written out, as the
    library's gradient has no deterministic algorithm on a GPU.

    Args:
        x_BHWC: Images or a feature map.

    Returns:
        [B, 2 H, 2 W, C].
    """
    for axis in (1, 2):
        size = x_BHWC.shape[axis]
        first, last = x_BHWC.narrow(axis, 0, 1), x_BHWC.narrow(axis, size - 1, 1)
        before = torch.cat([first, x_BHWC.narrow(axis, 0, size - 1)], axis)
        after = torch.cat([x_BHWC.narrow(axis, 1, size - 1), last], axis)
        pair = [0.25 * before + 0.75 * x_BHWC, 0.75 * x_BHWC + 0.25 * after]
        x_BHWC = torch.stack(pair, axis + 1).flatten(axis, axis + 1)
    return x_BHWC
