"""A convolution without padding by products of spectra: fewer multiplications, the same numbers.

Axes: B images, H W a feature map, C its channels, O channels of the result, R rows of a spectrum.
A kernel is HWIO, as canonical weights are.

`parity.weights.fourier` has the mathematics. Each phase of the stride is transformed by one matrix
product, is multiplied row by row (a batch of R products), and adds to the spectrum of the result:

    X_RBC = A x        K_RCO = A k        Y_RBO += X_RBC K_RCO        y = S Y

Only pixels that the result reads are looked at: the others may hold anything, and their gradient
is 0. An image's rounding error is relative to its largest output, and one number that is not
finite spoils all outputs of its image.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from parity.spec import TwincapsError
from parity.spec.convolution import Phase, Sizes
from parity.weights import fourier


def sizes(x_BHWC: Array, kernel: Array, stride: int) -> Sizes:
    """The sizes of the convolution of `conv`'s arguments."""
    *taps, channels, out = kernel.shape
    image = x_BHWC.shape[1], x_BHWC.shape[2]
    return Sizes(image, (taps[0], taps[1]), stride, channels, out)


def conv(x_BHWC: Array, kernel: Array, stride: int, spectra: list[Array] | None = None) -> Array:
    """The convolution, with gradients of its own, that cannot be differentiated again.

    Args:
        x_BHWC: Images or a feature map, [B, H, W, in].
        kernel: [kh, kw, in, out], of the same dtype.
        stride: Pixels, in both directions.
        spectra: Of this kernel, as `spectra` makes them; then there is no gradient.

    Returns:
        [B, H', W', out].
    """
    if spectra is not None:
        return _forward(sizes(x_BHWC, kernel, stride), x_BHWC, kernel, spectra)[0]
    try:
        return _convolution(sizes(x_BHWC, kernel, stride), x_BHWC, kernel)
    except TypeError as error:  # a custom_vjp cannot say in its own words what it refuses
        if "forward-mode" in str(error):
            raise _refusal("forward-mode derivatives") from error
        raise


def spectra(kernel: Array, of: Sizes) -> list[Array]:
    """The spectra K_RCO of the phases of a kernel, for convolutions of these sizes."""
    return [_of_kernel(kernel, phase, of) for phase in of.phases]


def _analysed(of: str, x: Array, area: tuple[int, int], sizes: Sizes) -> Array:
    """The spectrum [R, ...] of an array [height, width, ...], by one product of matrices."""
    matrix = jnp.asarray(fourier.analysis(of, sizes.grid, area), x.dtype)
    return lax.dot(matrix, x.reshape(matrix.shape[1], -1)).reshape(-1, *x.shape[2:])


def _synthesised(of: str, x: Array, area: tuple[int, int], sizes: Sizes) -> Array:
    """The array [height, width, ...] of the products [R, ...] of spectra."""
    matrix = jnp.asarray(fourier.synthesis(of, sizes.grid, area), x.dtype)
    return lax.dot(matrix, x.reshape(len(x), -1)).reshape(*area, *x.shape[1:])


def _of_phase(x: Array, phase: Phase, area: tuple[int, int], stride: int) -> Array:
    """A phase of an array whose first axes are height and width."""
    rows, columns = (
        slice(first, first + stride * (count - 1) + 1, stride)
        for first, count in zip(phase[:2], area, strict=True)
    )
    return x[rows, columns]


def _of_kernel(kernel: Array, phase: Phase, of: Sizes) -> Array:
    k_HWIO = _of_phase(kernel, phase, phase.taps, of.stride)
    return _analysed("kernel", k_HWIO, phase.taps, of)


def _forward(
    of: Sizes, x_BHWC: Array, kernel: Array, known: list[Array] | None = None
) -> tuple[Array, list[Array]]:
    """The result [B, H', W', O], and the spectra X_RBC of the phases of x."""
    spectra, Y_RBO, x_HWBC = [], None, x_BHWC.transpose(1, 2, 0, 3)
    for n, phase in enumerate(of.phases):
        phase_HWBC = _of_phase(x_HWBC, phase, phase.area, of.stride)
        X_RBC = _analysed("input", phase_HWBC, phase.area, of)
        K_RCO = known[n] if known else _of_kernel(kernel, phase, of)
        # The phases' products add up in the spectrum, and the result is synthesised once.
        product_RBO = _products(X_RBC, K_RCO, (2, 1))
        Y_RBO = product_RBO if Y_RBO is None else Y_RBO + product_RBO
        spectra.append(X_RBC)
    assert Y_RBO is not None
    return _synthesised("output", Y_RBO, of.places, of).transpose(2, 0, 1, 3), spectra


def _backward(of: Sizes, kept: tuple[Array, list[Array]], dy_BHWO: Array) -> tuple[Array, Array]:
    """The gradients of x and of the kernel."""
    # A barrier, or XLA would keep the kernel's spectra of the pass forward.
    (kernel, spectra), dy_BHWO = lax.optimization_barrier((kept, dy_BHWO))
    dy_HWBO = dy_BHWO.transpose(1, 2, 0, 3)
    D_RBO = _analysed("for_input", dy_HWBO, of.places, of)
    E_RBO = _analysed("for_kernel", dy_HWBO, of.places, of)
    grid, dk_HWIO = {}, jnp.zeros_like(kernel)
    zeros = jnp.zeros((len(dy_BHWO), *of.grid, of.channels), dy_BHWO.dtype)
    for phase, X_RBC in zip(of.phases, spectra, strict=True):
        # dX = dY K; K is made again, as keeping it would take the most memory.
        products_RBC = _products(D_RBO, _of_kernel(kernel, phase, of), (2, 2))
        dx_BHWC = _synthesised("input", products_RBC, phase.area, of).transpose(2, 0, 1, 3)
        grid[phase[:2]] = zeros.at[:, : phase.area[0], : phase.area[1]].set(dx_BHWC)
        # dK = X^T dY; every tap belongs to one phase.
        products_RIO = _products(X_RBC, E_RBO, (1, 1))
        phase_HWIO = _synthesised("kernel", products_RIO, phase.taps, of)
        at = (slice(phase.top, None, of.stride), slice(phase.left, None, of.stride))
        dk_HWIO = dk_HWIO.at[at].set(phase_HWIO)
    return _interleaved(grid, zeros, of), dk_HWIO


def _interleaved(grid: dict[Any, Array], zeros: Array, of: Sizes) -> Array:
    """The phases of an image put together, with zeros where no output looks: [B, H, W, C]."""
    every = range(of.stride)
    rows = [jnp.stack([grid.get((i, j), zeros) for j in every], 3) for i in every]
    images, height, width, channels = zeros.shape
    whole = jnp.stack(rows, 2).reshape(images, height * of.stride, width * of.stride, channels)
    whole = whole[:, : of.image[0], : of.image[1]]
    rest = [(0, size - has) for size, has in zip(of.image, whole.shape[1:3], strict=True)]
    return jnp.pad(whole, ((0, 0), *rest, (0, 0)))


def _products(a: Array, b: Array, over: tuple[int, int]) -> Array:
    """A batch of products of matrices, summed over axis over[0] of a and over[1] of b."""
    return lax.dot_general(a, b, (((over[0],), (over[1],)), ((0,), (0,))))


def _refusal(what: str) -> TwincapsError:
    return TwincapsError(
        f"a convolution by Fourier transform has no {what}; build the network with "
        'convolution="direct" for one that has'
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolution(of: Sizes, x_BHWC: Array, kernel: Array) -> Array:
    return _forward(of, x_BHWC, kernel)[0]


def _convolution_forward(
    of: Sizes, x_BHWC: Array, kernel: Array
) -> tuple[Array, tuple[Array, list[Array]]]:
    y_BHWO, spectra = _forward(of, x_BHWC, kernel)
    return y_BHWO, (kernel, spectra)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _gradient(of: Sizes, kept: Any, dy_BHWO: Array) -> tuple[Array, Array]:
    return _backward(of, kept, dy_BHWO)


@_gradient.defjvp
def _refuse(of: Sizes, primals: Any, tangents: Any) -> Any:
    raise _refusal("second derivatives")


_convolution.defvjp(_convolution_forward, _gradient)
