"""The ladder's measure: how far apart two arrays are, and the worst of many."""

from collections.abc import Iterable, Mapping

import ml_dtypes
import numpy as np

INFINITE = float("inf")


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """max|a - b| / max(max|a|, max|b|), and 0 where both are all zero.

    Absolute differences below the smallest normal of the wider-spaced dtype count as 0. A NaN or
    an infinity of one side alone, and another shape, are infinitely far apart; what is not finite
    and the same on both sides is not looked at.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return INFINITE
    tiny = max(_smallest_normal(a.dtype), _smallest_normal(b.dtype))
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    if not finite.all():
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return INFINITE
        a, b = a[finite], b[finite]
    apart = np.abs(a - b).max(initial=0.0)
    if apart < tiny or apart == 0:
        return 0.0
    return float(apart / max(np.abs(a).max(), np.abs(b).max()))


def _smallest_normal(dtype: np.dtype) -> float:
    return 0.0 if dtype.kind in "biu" else float(ml_dtypes.finfo(dtype).smallest_normal)


def differences(
    a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], names: Iterable[str] | None = None
) -> dict[str, float]:
    """Name -> difference, in the order of `names` or `a`; infinite where missing."""
    if names is None:
        names = dict.fromkeys((*a, *b))
    return {
        name: difference(a[name], b[name]) if name in a and name in b else INFINITE
        for name in names
    }


def worst(distances: Mapping[str, float]) -> tuple[str, float]:
    """The name of the largest difference, the first of equals, and that difference."""
    name = max(distances, key=distances.__getitem__, default="")
    return name, distances.get(name, 0.0)
