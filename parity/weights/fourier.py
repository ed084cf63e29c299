"""The matrices by which a convolution is computed in the spectra of small grids.

A correlation of an image x and a kernel k, y[p] = sum over m of x[p + m] k[m], is a product for
each frequency of a grid: Y = X conj(K), on a grid as large as the pixels that y reads, so that
nothing wraps around. Its gradients are products too: dX = dY K and dK = X conj(dY).

A transform of such a small grid is a product with a constant matrix. Of a real grid half the
frequencies are enough, and a complex product needs three real ones (Gauss). With the spectra
X = u + iv, conj(K) = g + ih and dY = p + iq, whose rows the matrices below make and take:

    rows        a              b                 c                  from them
    input       u + v          u                 v
    kernel      g              h - g             g + h
    Y           a = (u + v) g  b = u (h - g)     c = v (g + h)      Re a - c    Im a + b
    for_input   p + q          q                 p
    dX          a = (p + q) g  b = q (h - g)     c = p (g + h)      Re a + b    Im a - c
    for_kernel  p              p + q             p - q
    dK          a = (u + v) p  b = u (p + q)     c = v (p - q)      Re a - c    Im a - b

Where a frequency is its own mirror image it is real, and b and c add nothing: rows that are left
out. R below is the number of rows.
"""

import functools
import math

import numpy as np

Size = tuple[int, int]


@functools.cache
def analysis(of: str, grid: Size, area: Size) -> np.ndarray:
    """The matrix that makes the rows of a spectrum: [R, area].

    Args:
        of: "input", "kernel", or "for_input" and "for_kernel", which are the gradient of the
            result as the products for those two gradients take it.
        grid: Height and width of the grid.
        area: Height and width of what is transformed, from the grid's first corner; zeros beyond.
    """
    cos, sin, real, _ = _waves(grid, area)
    # X and dY by exp(-i angle); conj(K) is K's spectrum with its sign of i changed.
    rows = {
        "input": (cos - sin, cos, -sin),
        "kernel": (cos, sin - cos, cos + sin),
        "for_input": (cos - sin, -sin, cos),
        "for_kernel": (cos, cos - sin, cos + sin),
    }[of]
    return _without(real, rows)


@functools.cache
def synthesis(of: str, grid: Size, area: Size) -> np.ndarray:
    """The matrix that takes the products a, b and c back: [area, R].

    Args:
        of: "output", or "input" and "kernel" for the gradients of those.
        grid: Height and width of the grid.
        area: Height and width of what is wanted of it, from its first corner.
    """
    cos, sin, real, weight = _waves(grid, area)
    # Re(Y exp(i angle)) = Re Y cos - Im Y sin, with Re and Im as the table above has them.
    rows = {
        "output": (cos - sin, -sin, -cos),
        "input": (cos - sin, cos, sin),
        "kernel": (cos - sin, sin, -cos),
    }[of]
    return np.ascontiguousarray(_without(real, [weight[:, None] * each for each in rows]).T)


def _waves(grid: Size, area: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cosines and sines [frequency, area], which frequencies are real, and their weights."""
    (height, width), points = grid, np.indices(area).reshape(2, -1)
    f, g = np.indices(grid).reshape(2, -1)
    mirror = -f % height * width + -g % width  # the number of each frequency's mirror image
    half = np.arange(f.size) <= mirror
    f, g, real = f[half], g[half], (mirror == np.arange(f.size))[half]
    # Whole turns are taken off while they are exact.
    turns = np.outer(f, points[0]) % height / height + np.outer(g, points[1]) % width / width
    angle = 2 * np.pi * turns
    # A frequency that stands for its mirror image too counts twice.
    return np.cos(angle), np.sin(angle), real, np.where(real, 1, 2) / math.prod(grid)


def _without(real: np.ndarray, rows: "list | tuple") -> np.ndarray:
    a, b, c = rows
    return np.concatenate([a, b[~real], c[~real]])
