"""Where a relu decides in one wing that a number is above 0, and in the other that it is not.

Both values are right to rounding, yet the gradients on the two sides of 0 are different functions.
They are then compared at a batch that is a little brighter, the first at which every relu decides
alike, and where other programs than the traced ones are compared, surely so. Nothing else is
excused: a number counts as near 0 only within rung 2's tolerance, and at that batch every gradient
is compared, those at numbers near 0 too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from parity.traces.recording import Trace

# How many brighter batches are tried: of `efficient` about every second one is decided alike.
BATCHES = 16


@dataclass(frozen=True)
class Flip:
    """A number above 0 in one of two traces alone.

    Attributes:
        name: The tensor that a relu takes, or makes.
        index: Of the number in it.
        values: By trace.
        share: The larger of the two, as a share of the tensor's largest value.
    """

    name: str
    index: tuple[int, ...]
    values: Mapping[str, float]
    share: float

    def __str__(self) -> str:
        each = " and ".join(f"{value:.1e} in {trace}" for trace, value in self.values.items())
        return f"{self.name}{list(self.index)} is {each}"


def flips(a: Trace, b: Trace, near: float = 0) -> list[Flip]:
    """The numbers that a relu of the network lets through in one trace alone.

    With those so `near` 0, as a share of their tensor's largest, that a third program of the same
    numbers may decide otherwise than both.
    """
    found = []
    for name in a.spec.rectified():
        x, y = a.values[name], b.values[name]
        if x.shape != y.shape:
            continue  # rung 2 says so
        nearer, farther = np.minimum(abs(x), abs(y)), np.maximum(abs(x), abs(y))
        largest = farther.max(initial=0)
        unsure = (nearer < near * largest) & (farther > 0)
        for place in np.argwhere(((x > 0) != (y > 0)) | unsure):
            index = tuple(place.tolist())
            values = {a.name: float(x[index]), b.name: float(y[index])}
            found.append(Flip(name, index, values, float(farther[index] / largest)))
    return found


@dataclass(frozen=True, eq=False)
class Decided:
    """Two traces whose relus decide alike where that can be had.

    Attributes:
        traces: Their batch is brighter than the subject's own by `brighter` 1024ths.
        note: What was found in the subject's own batch, empty where nothing was.
    """

    traces: tuple[Trace, Trace]
    brighter: int = 0
    note: str = ""


def alike(
    trace: Callable[[int], tuple[Trace, Trace]], tolerance: float, near: float = 0
) -> Decided:
    """Two traces of the first batch whose relus decide alike, beginning with the subject's own.

    They are of that one, too, where a number of another sign is not near 0, or where no batch of
    `BATCHES` is decided alike: then there is no excuse.

    Args:
        trace: The brightness of a batch -> the two traces of it.
        tolerance: How near 0 is, as a share of a tensor's largest value.
        near: How near 0 other programs than the traced ones may decide otherwise: see `flips`.
    """
    first = trace(0)
    at_first = found = flips(*first, near)
    why = f"a relu {'may decide' if near else 'decides'} differently"
    for brighter in range(1, BATCHES + 1):
        if any(not flip.share <= tolerance for flip in found):
            return Decided(first, 0, f"{why}: {_listed(found, tolerance)}")
        if not found:
            break
        traces = trace(brighter)
        found = flips(*traces, near)
        if not found:
            note = f"at a batch brighter by {brighter}/1024, as in the batch itself {why}"
            return Decided(traces, brighter, f"{note}: {_listed(at_first, tolerance)}")
    return Decided(first, 0, f"in {BATCHES} batches {why}" if found else "")


def _listed(found: list[Flip], tolerance: float) -> str:
    """The first three, the farthest from 0 first."""
    ordered = sorted(found, key=lambda flip: -flip.share)
    more = f", and {len(found) - 3} more" if len(found) > 3 else ""
    return (
        f"{'; '.join(map(str, ordered[:3]))}{more} (up to {ordered[0].share:.1e} of the tensor's "
        f"largest value; {tolerance:g} is rounding)"
    )
