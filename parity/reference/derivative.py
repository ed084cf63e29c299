"""Derivatives by complex step: exact to rounding, of anything the oracle computes."""

from collections.abc import Callable

import numpy as np

from parity.reference.arrays import Array, double


def derivative(function: Callable[[Array], Array], x, direction, h: float = 1e-30) -> Array:
    """d function(x + e * direction) / de at e = 0 by complex step: one call, any output shape.

    `h` must be far below the smallest capsule norm that is not 0; 1e-30 is, down to 1e-17.
    """
    return np.imag(function(double(x) + 1j * h * np.asarray(direction))) / h


def gradient(function: Callable[[Array], Array], x, h: float = 1e-30) -> Array:
    """The gradient of a scalar function at `x`, in the shape of x: a call for each number in it."""
    x = double(x)
    result = np.zeros(x.shape)
    for index in np.ndindex(*x.shape):
        direction = np.zeros(x.shape)
        direction[index] = 1
        result[index] = derivative(function, x, direction, h)
    return result
