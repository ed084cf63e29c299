"""The oracle: capsules, routing, losses and networks in float64 NumPy.

The third twin of the wings, in files of the same names. Equations are those of Sabour, Frosst,
Hinton, "Dynamic Routing Between Capsules" (2017), unless a file says otherwise.

Everything takes complex128 as well, so that `gradient` and `derivative` can differentiate it by
complex step: f(x + ih).imag / h is df/dx up to an error of h * h, with no difference of nearly
equal numbers in it. That asks for two things of every line here: no conjugates (a norm is
sqrt(sum s * s)), and whatever *decides* looks at the real part alone (relu, the shift of a
softmax, whether a capsule is zero).
"""

from parity.reference import norm as norm
from parity.reference import routing as routing
from parity.reference.arrays import Array, double, leaky, relu, sigmoid
from parity.reference.capsules import (
    Tap,
    exponential_squash,
    lengths,
    longest,
    matrix_votes,
    no_tap,
    squash,
    votes,
)
from parity.reference.convolution import (
    conv,
    depthwise,
    double_size,
    overlap,
    padded,
    same,
    transposed,
    windows,
)
from parity.reference.derivative import derivative, gradient
from parity.reference.losses import (
    correct,
    cross_entropy,
    margin,
    negative_log_likelihood,
    one_hot,
    reconstruction,
    spread,
)
from parity.reference.networks import decode, encode, forward, mask
from parity.reference.routing._dynamic import softmax

__all__ = [
    "Array",
    "Tap",
    "conv",
    "correct",
    "cross_entropy",
    "decode",
    "depthwise",
    "derivative",
    "double",
    "double_size",
    "encode",
    "exponential_squash",
    "forward",
    "gradient",
    "leaky",
    "lengths",
    "longest",
    "margin",
    "mask",
    "matrix_votes",
    "negative_log_likelihood",
    "no_tap",
    "norm",
    "one_hot",
    "overlap",
    "padded",
    "reconstruction",
    "relu",
    "routing",
    "same",
    "sigmoid",
    "softmax",
    "spread",
    "squash",
    "transposed",
    "votes",
    "windows",
]
