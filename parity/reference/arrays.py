"""The oracle's numbers: float64, or complex128 under a complex step.

No conjugates, and whatever decides looks at the real part alone.
"""

import numpy as np

Array = np.ndarray


def double(x) -> Array:
    """`x` in float64, or complex128 where it is complex."""
    x = np.asarray(x)
    return x.astype(np.result_type(x.dtype, np.float64), copy=False)


def relu(x: Array) -> Array:
    """max(x, 0), with gradient 0 at 0."""
    return np.where(np.real(x) > 0, x, 0)


def leaky(x: Array, slope: float) -> Array:
    """Leaky relu: x where it is above 0, else slope * x; relu for a slope of 0."""
    return np.where(np.real(x) > 0, x, slope * x)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow for x of either sign."""
    small = np.exp(np.where(np.real(x) > 0, -x, x))
    return np.where(np.real(x) > 0, 1, small) / (1 + small)
