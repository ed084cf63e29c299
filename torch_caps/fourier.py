"""A convolution without padding by products of spectra: fewer multiplications, the same numbers.

Axes: B images, H W a feature map, C its channels, O channels of the result, R rows of a spectrum.
A kernel is OIHW, as torch has it, and in memory O H W C.

`parity.weights.fourier` has the mathematics. Each phase of the stride is transformed by one matrix
product, is multiplied row by row (a batch of R products), and adds to the spectrum of the result:

    X_RBC = A x        K_ROC = A k        Y_RBO += X_RBC K_ROC^T        y = S Y

Only pixels that the result reads are looked at: the others may hold anything, and their gradient
is 0. An image's rounding error is relative to its largest output, and one number that is not
finite spoils all outputs of its image.
"""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from parity.spec import TwincapsError
from parity.spec.convolution import Phase, Sizes
from parity.weights import fourier

# A kernel -> a copy of it, and the spectra of the copy.
_kept: Any = WeakTensorKeyDictionary()


def sizes(x_BHWC: Tensor, kernel: Tensor, stride: int) -> Sizes:
    """The sizes of the convolution of `conv`'s arguments."""
    out, channels, *taps = kernel.shape
    image = x_BHWC.shape[1], x_BHWC.shape[2]
    return Sizes(image, (taps[0], taps[1]), stride, channels, out)


def conv(
    x_BHWC: Tensor, kernel: Tensor, stride: int, spectra: list[Tensor] | None = None
) -> Tensor:
    """The convolution, with gradients of its own, that cannot be differentiated again.

    Where no gradient is asked for, a parameter's spectra are kept for the next call, as long as it
    lives and holds the same numbers.

    Args:
        x_BHWC: Images or a feature map, [B, H, W, in].
        kernel: [out, in, kh, kw], of the same dtype.
        stride: Pixels, in both directions.
        spectra: Of this kernel, as `spectra` makes them; then there is no gradient.

    Returns:
        [B, H', W', out].
    """
    if spectra is None and isinstance(kernel, torch.nn.Parameter):
        if not (torch.is_grad_enabled() and (x_BHWC.requires_grad or kernel.requires_grad)):
            spectra = _known(kernel, sizes(x_BHWC, kernel, stride))
        else:
            _kept.pop(kernel, None)
    if spectra is None:
        return _Convolution.apply(x_BHWC, kernel, stride)  # pyright: ignore[reportReturnType]
    return _forward(x_BHWC, kernel, stride, spectra)


def spectra(kernel: Tensor, of: Sizes) -> list[Tensor]:
    """The spectra K_ROC of the phases of a kernel, for convolutions of these sizes."""
    return [_of_kernel(kernel, phase, of) for phase in of.phases]


def _known(kernel: Tensor, of: Sizes) -> list[Tensor]:
    """The spectra of a parameter's phases, made again where it has changed.

    Its bits are compared, as torch's count of versions misses what is written through `.data`, and
    integers are compared faster than floating numbers.
    """
    bits_OHWC = kernel.detach().permute(0, 2, 3, 1).contiguous().view(torch.int32)
    copy, grid, known = _kept.get(kernel, (None, None, None))
    if known is None or grid != of.grid or not torch.equal(copy, bits_OHWC):
        known = spectra(kernel, of)
        _kept[kernel] = bits_OHWC.clone(), of.grid, known
    return known


@functools.cache
def _matrix(make: Any, of: str, grid: Any, area: Any, dtype: Any, device: Any) -> Tensor:
    return torch.tensor(make(of, grid, area), dtype=dtype, device=device)


def _analysed(of: str, x: Tensor, area: tuple[int, int], sizes: Sizes) -> Tensor:
    """The spectrum [R, ...] of an array [height, width, ...], by one product of matrices."""
    matrix = _matrix(fourier.analysis, of, sizes.grid, area, x.dtype, x.device)
    return torch.mm(matrix, x.reshape(matrix.shape[1], -1)).view(-1, *x.shape[2:])


def _synthesised(of: str, x: Tensor, area: tuple[int, int], sizes: Sizes) -> Tensor:
    """The array [height, width, ...] of the products [R, ...] of spectra."""
    matrix = _matrix(fourier.synthesis, of, sizes.grid, area, x.dtype, x.device)
    return torch.mm(matrix, x.reshape(len(x), -1)).view(*area, *x.shape[1:])


def _of_phase(x: Tensor, phase: Phase, area: tuple[int, int], stride: int) -> Tensor:
    """A phase's view of an array whose axes 1 and 2 are height and width."""
    rows, columns = (
        slice(first, first + stride * (count - 1) + 1, stride)
        for first, count in zip(phase[:2], area, strict=True)
    )
    return x[:, rows, columns]


def _of_kernel(kernel: Tensor, phase: Phase, of: Sizes) -> Tensor:
    k_OHWC = _of_phase(kernel.permute(0, 2, 3, 1), phase, phase.taps, of.stride)
    return _analysed("kernel", k_OHWC.permute(1, 2, 0, 3), phase.taps, of)


def _of_input(x_BHWC: Tensor, phase: Phase, of: Sizes) -> Tensor:
    phase_BHWC = _of_phase(x_BHWC, phase, phase.area, of.stride)
    return _analysed("input", phase_BHWC.permute(1, 2, 0, 3), phase.area, of)


def _forward(
    x_BHWC: Tensor, kernel: Tensor, stride: int, known: list[Tensor] | None = None
) -> Tensor:
    """The result [B, H', W', O]."""
    of, Y_RBO = sizes(x_BHWC, kernel, stride), None
    for n, phase in enumerate(of.phases):
        X_RBC = _of_input(x_BHWC, phase, of)
        K_ROC = known[n] if known else _of_kernel(kernel, phase, of)
        # The phases' products add up in the spectrum, and the result is synthesised once.
        if Y_RBO is None:
            Y_RBO = torch.bmm(X_RBC, K_ROC.mT)
        elif known:  # without a gradient
            Y_RBO.baddbmm_(X_RBC, K_ROC.mT)
        else:  # not in place, for which torch.func.vmap has no rule
            Y_RBO = torch.baddbmm(Y_RBO, X_RBC, K_ROC.mT)
    assert Y_RBO is not None
    y_HWBO = _synthesised("output", Y_RBO, of.places, of)
    return y_HWBO.permute(2, 0, 1, 3).contiguous()


def _backward(
    dy_BHWO: Tensor, x_BHWC: Tensor, kernel: Tensor, of: Sizes, needed: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of x and of the kernel, those that are needed."""
    dx_BHWC = dk_OHWC = None
    dy_HWBO = dy_BHWO.permute(1, 2, 0, 3)
    if needed[0]:
        # dX = dY K, phase by phase; spectra are made again, as they would take the most memory.
        D_RBO = _analysed("for_input", dy_HWBO, of.places, of)
        dx_BHWC = dy_BHWO.new_zeros(len(dy_BHWO), *of.image, of.channels)
        for phase in of.phases:
            # Nothing large has a name that would hold it in memory beside the next phase's.
            view_BHWC = _of_phase(dx_BHWC, phase, phase.area, of.stride)
            view_BHWC.copy_(
                _synthesised(
                    "input", torch.bmm(D_RBO, _of_kernel(kernel, phase, of)), phase.area, of
                ).permute(2, 0, 1, 3)
            )
        del D_RBO
    if needed[1]:
        # dK = dY^T X; every tap belongs to one phase.
        D_RBO = _analysed("for_kernel", dy_HWBO, of.places, of)
        dk_OHWC = dy_BHWO.new_empty(of.out, *of.kernel, of.channels)
        for phase in of.phases:
            X_RBC = _of_input(x_BHWC, phase, of)
            view_OHWC = _of_phase(dk_OHWC, phase, phase.taps, of.stride)
            view_OHWC.copy_(
                _synthesised("kernel", torch.bmm(D_RBO.mT, X_RBC), phase.taps, of).permute(
                    2, 0, 1, 3
                )
            )
        dk_OHWC = dk_OHWC.permute(0, 3, 1, 2)
    return dx_BHWC, dk_OHWC


def _refusal(what: str) -> TwincapsError:
    return TwincapsError(
        f"a convolution by Fourier transform has no {what}; build the network with "
        'convolution="direct" for one that has'
    )


class _Convolution(torch.autograd.Function):
    """The result [B, H', W', O]."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x_BHWC, kernel, stride):
        return _forward(x_BHWC, kernel, stride)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x_BHWC, kernel, stride = inputs
        ctx.of = sizes(x_BHWC, kernel, stride)
        ctx.save_for_backward(x_BHWC, kernel)

    @staticmethod
    def backward(ctx, *dy_BHWO):
        needed = ctx.needs_input_grad[:2]
        found = _Gradient.apply(dy_BHWO[0], *ctx.saved_tensors, ctx.of, needed)
        return *found, None  # pyright: ignore[reportGeneralTypeIssues]

    @staticmethod
    def jvp(ctx, *tangents):
        raise _refusal("forward-mode derivatives")


class _Gradient(torch.autograd.Function):
    """The gradients of x and of the kernel: a Function, so that it can refuse derivatives."""

    generate_vmap_rule = True

    @staticmethod
    def forward(dy_BHWO, x_BHWC, kernel, of, needed):
        return _backward(dy_BHWO, x_BHWC, kernel, of, needed)

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keeps nothing."""

    @staticmethod
    def backward(ctx, *_):
        raise _refusal("second derivatives")

    @staticmethod
    def jvp(ctx, *tangents):
        raise _refusal("second derivatives")
