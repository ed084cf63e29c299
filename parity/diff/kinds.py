"""What kind a difference is, from the numbers of the two tensors alone.

Kinds are tried from the plainest: what fits to rounding is a finding, never a guess.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

ROUNDING, SEMANTIC, ORDER, SIGN = "rounding", "semantic", "axis order", "sign"
SCALE, SHIFT, BORDER, SHAPE = "scale or offset", "shift", "border", "shape"
NAN, RANDOM, PARAMETER, INPUTS = "not finite on one side", "random", "parameter", "inputs"
DETACHED = "gradient on one side alone"
# A fit explains a difference when it leaves no more than this share of it.
LEFT_OVER = 1e-4


@dataclass(frozen=True)
class Kind:
    """A kind of difference and what was measured: `right = -0.5 * left`."""

    name: str
    facts: tuple[str, ...] = ()


def classify(left: np.ndarray, right: np.ndarray, tolerance: float) -> Kind:
    """The kind of the difference of two tensors.

    Args:
        left: A tensor.
        right: The other side's, in the left's layout, or of another size.
        tolerance: What rounding may be, as a share of the largest magnitude.
    """
    if left.size != right.size:
        return Kind(SHAPE, (f"{list(left.shape)} on the left, {list(right.shape)} on the right",))
    a, b = left.astype(np.float64), right.astype(np.float64).reshape(left.shape)
    finite = np.isfinite(a), np.isfinite(b)
    if (finite[0] != finite[1]).any():
        counts = [int((~each).sum()) for each in finite]
        return Kind(NAN, (f"{counts[0]} on the left, {counts[1]} on the right, of {a.size}",))
    a, b = np.where(finite[0], a, 0.0), np.where(finite[1], b, 0.0)
    scale = max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0))
    slack = max(tolerance * scale, LEFT_OVER * float(np.abs(a - b).max(initial=0.0)))
    if np.abs(a + b).max() <= slack:
        return Kind(SIGN, ("right = -left",))
    if a.size > 1 and np.abs(np.sort(a, None) - np.sort(b, None)).max() <= slack:
        return Kind(ORDER, ("the same numbers in another order",))
    for test in (_linear, _sliced, _shifted, _bordered):
        if (kind := test(a, b, slack)) is not None:
            return kind
    return Kind(SEMANTIC, tuple(_partly(a, b, tolerance * scale)))


def _linear(a: np.ndarray, b: np.ndarray, slack: float) -> Kind | None:
    """Right = factor * left + offset, for all numbers."""
    if a.size < 4 or len(np.unique(a.reshape(-1)[:4096])) < 3:
        return None
    for factor, offset, text in _fits(a.reshape(1, -1), b.reshape(1, -1)):
        if np.abs(factor * a.reshape(1, -1) + offset - b.reshape(1, -1)).max() <= slack:
            return Kind(SCALE, (text.format(factor=factor.item(), offset=offset.item()),))
    return None


def _fits(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
    """Least squares for each row: an offset, a factor, both."""
    one, zero = np.ones((len(a), 1)), np.zeros((len(a), 1))
    yield one, (b - a).mean(1, keepdims=True), "right = left + {offset:.6g}"
    square = (a * a).sum(1, keepdims=True)
    square = np.where(square == 0, 1, square)
    yield (a * b).sum(1, keepdims=True) / square, zero, "right = {factor:.6g} * left"
    middle_a, middle_b = a.mean(1, keepdims=True), b.mean(1, keepdims=True)
    spread = ((a - middle_a) ** 2).sum(1, keepdims=True)
    factor = ((a - middle_a) * (b - middle_b)).sum(1, keepdims=True)
    factor = factor / np.where(spread == 0, 1, spread)
    text = "right = {factor:.6g} * left + {offset:.6g}"
    yield factor, middle_b - factor * middle_a, text


def _sliced(a: np.ndarray, b: np.ndarray, slack: float) -> Kind | None:
    """A factor and an offset of its own for each index of an axis, or for each row."""
    if a.ndim < 2:
        return None
    last = a.ndim - 1
    groups = [((axis,), f"each index of axis {axis}") for axis in range(a.ndim)]
    groups += [(tuple(range(last)), f"each row along axis {last}")] if last > 1 else []
    for kept, words in groups:
        rest = tuple(axis for axis in range(a.ndim) if axis not in kept)
        count = math.prod(a.shape[axis] for axis in kept)
        each = a.size // max(count, 1)
        if count < 2:
            continue
        x, y = (m.transpose(kept + rest).reshape(count, each) for m in (a, b))
        for (factor, offset, text), needed in zip(_fits(x, y), (3, 3, 5), strict=True):
            if each >= needed and np.abs(factor * x + offset - y).max() <= slack:
                said = text.split("{")[0] + _range(text, factor, offset)
                return Kind(SCALE, (f"{said}, for {words}",))
    return None


def _range(text: str, factor: np.ndarray, offset: np.ndarray) -> str:
    parts = []
    for name, values, form in (("factor", factor, "{} * left"), ("offset", offset, "{}")):
        if f"{{{name}" in text:
            parts.append(form.format(f"({values.min():.6g} to {values.max():.6g})"))
    return " + ".join(parts)


def _moved(a: np.ndarray, b: np.ndarray, steps: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """What two arrays have in common if the right one is moved by steps along the axes."""
    one, other = [], []
    for step, size in zip(steps, a.shape, strict=True):
        one.append(slice(max(0, -step), size - max(0, step)))
        other.append(slice(max(0, step), size - max(0, -step)))
    return a[tuple(one)], b[tuple(other)]


def _inside(x: np.ndarray, axes: tuple[int, ...], width: int) -> np.ndarray:
    where = [slice(width, -width) if n in axes else slice(None) for n in range(x.ndim)]
    return x[tuple(where)]


def _pairs(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Axes that may be those of a picture or a sequence: one, or two side by side."""
    # An array of two axes is a batch of features: it has no border.
    long = [n for n in range(1, len(shape)) if shape[n] >= 5 and len(shape) > 2]
    both = [(m, n) for m, n in itertools.pairwise(long) if n == m + 1 and len(shape) > 3]
    return both + [(n,) for n in long]


def _shifted(a: np.ndarray, b: np.ndarray, slack: float) -> Kind | None:
    """The same numbers one or two places further, but for the border."""
    for axes in _pairs(a.shape):
        for step in (1, -1, 2, -2):
            steps = tuple(step if n in axes else 0 for n in range(a.ndim))
            one, other = _moved(a, b, steps)
            one, other = _inside(one, axes, 1), _inside(other, axes, 1)
            moves = one.size >= 4 and np.abs(one - other).max() <= slack
            if moves and np.ptp(one) > 10 * slack:
                words = f"right is left moved by {step} along axis {' and '.join(map(str, axes))}"
                return Kind(SHIFT, (f"{words}, but for the border",))
    return None


def _bordered(a: np.ndarray, b: np.ndarray, slack: float) -> Kind | None:
    """Equal but for a border of one to three places."""
    for axes in _pairs(a.shape):
        for width in (1, 2, 3):
            inside = [_inside(x, axes, width) for x in (a, b)]
            if (
                min(inside[0].shape) >= 1
                and 4 * inside[0].size >= a.size
                and np.abs(inside[0] - inside[1]).max() <= slack
            ):
                where = " and ".join(map(str, axes))
                return Kind(BORDER, (f"equal but for {width} at the ends of axis {where}",))
    return None


def _partly(a: np.ndarray, b: np.ndarray, slack: float) -> Iterator[str]:
    """What share agrees, and along which axis whole slices do."""
    good = np.abs(a - b) <= slack
    share = float(good.mean())
    if share < 0.02:
        return
    yield f"{share:.0%} of the numbers agree"
    for axis in range(a.ndim):
        slices = good.all(tuple(n for n in range(a.ndim) if n != axis))
        if slices.any() and a.shape[axis] > 1:
            where = np.flatnonzero(slices)
            some = ", ".join(map(str, where[:6])) + ", ..." * (len(where) > 6)
            yield f"all agree at {some} of axis {axis}"


def _erf(x: np.ndarray) -> np.ndarray:
    return np.array([math.erf(each) for each in x.tolist()])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# Activations by the names in their papers; applied to a sample, as NumPy has no erf.
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "its input": lambda x: x,
    "relu": lambda x: np.where(x > 0, x, 0),
    "gelu with erf": lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2,
    "gelu with tanh": lambda x: (
        x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    ),
    "gelu with sigmoid(1.702 x)": lambda x: x * _sigmoid(1.702 * x),
    "silu": lambda x: x * _sigmoid(x),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky relu with slope 0.01": lambda x: np.where(x > 0, x, 0.01 * x),
    "leaky relu with slope 0.1": lambda x: np.where(x > 0, x, 0.1 * x),
    "leaky relu with slope 0.2": lambda x: np.where(x > 0, x, 0.2 * x),
    "leaky relu with slope 0.3": lambda x: np.where(x > 0, x, 0.3 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "softplus": lambda x: np.logaddexp(x, 0),
    "hard swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hard sigmoid (x / 6 + 1 / 2)": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard sigmoid (x / 5 + 1 / 2)": lambda x: np.clip(x / 5 + 0.5, 0, 1),
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "exact square of relu": lambda x: np.where(x > 0, x, 0) ** 2,
}


def activation(x: np.ndarray, y: np.ndarray, tolerance: float) -> str | None:
    """The activation that gives y of x, number by number, if it is a usual one."""
    if x.size != y.size or not np.isfinite(x).all() or not np.isfinite(y).all():
        return None
    step = max(1, x.size // 2048)
    x, y = (m.reshape(-1)[::step].astype(np.float64) for m in (x, y))
    slack = tolerance * float(np.abs(y).max(initial=1e-300))
    with np.errstate(over="ignore"):
        fits = (name for name, f in ACTIVATIONS.items() if np.abs(f(x) - y).max() <= slack)
        return next(fits, None)


def sums_to_one(x: np.ndarray) -> list[int]:
    """The axes along which a tensor sums to 1 everywhere: those of a softmax."""
    if x.ndim == 0 or not np.isfinite(x).all() or x.min(initial=0) < 0:
        return []
    return [n for n in range(x.ndim) if x.shape[n] > 1 and np.abs(x.sum(n) - 1).max() < 1e-5]
