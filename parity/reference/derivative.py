"""Derivatives of anything the oracle computes, by complex step."""

from collections.abc import Callable

import numpy as np

from parity.reference.arrays import Array, double


def derivative(function: Callable[[Array], Array], x, direction, h: float = 1e-30) -> Array:
    """The derivative of a function at `x` along a direction, by complex step.

    d function(x + e direction) / de at e = 0 is Im function(x + i h direction) / h, up to h^2.

    Args:
        function: Of the oracle, with an output of any shape; it is called once.
        x: Where; any shape.
        direction: As `x`.
        h: Far below the smallest capsule norm that is not 0; 1e-30 is, down to 1e-17.

    Returns:
        An array in the shape of the output.
    """
    # f(x + ih) = f(x) + ih f'(x) - ..., so the imaginary part is h f'(x), with nothing subtracted.
    return np.imag(function(double(x) + 1j * h * np.asarray(direction))) / h


def gradient(function: Callable[[Array], Array], x, h: float = 1e-30) -> Array:
    """The gradient of a scalar function at `x`: a complex step for each number.

    Args:
        function: Of the oracle, with one number for output.
        x: Where; any shape.
        h: As in `derivative`.

    Returns:
        An array in the shape of `x`.
    """
    x = double(x)
    result = np.zeros(x.shape)
    for index in np.ndindex(*x.shape):
        direction = np.zeros(x.shape)
        direction[index] = 1
        result[index] = derivative(function, x, direction, h)
    return result
