"""Rounding or semantic: what a difference is, and which wing leaves the oracle.

A difference in float32 alone is *rounding*. One that is there in float64 too is *semantic*: the
two wings compute different things, and the oracle (`parity.reference`) says which is right.
"""

from dataclasses import dataclass

import numpy as np

from parity import reference
from parity.traces.first import First, first_difference
from parity.traces.measure import differences
from parity.traces.recording import Trace
from parity.weights import Arrays

# Of the gap between two gradients, how far one may be from the oracle's and still be the right one.
SHARE = 0.1


@dataclass(frozen=True)
class Verdict:
    """What a difference is: "rounding" or "semantic".

    Attributes:
        first: Of a semantic one, the first tensor that differs in float64.
        departs: The wings that leave the oracle there; none where the oracle is between them.
    """

    kind: str
    first: First | None = None
    departs: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.kind == "rounding":
            return "rounding: in float64 they agree"
        named = f"semantic: in float64 {self.first} differs too, by {self.first.difference:.1e}"  # pyright: ignore
        which = " and ".join(self.departs) or "neither"
        leave = "leave" if len(self.departs) == 2 else "leaves"
        return f"{named}; {which} {leave} the oracle"


def verdict(a: Trace, b: Trace, tolerance: float, gradients: float | None = None) -> Verdict:
    """What a difference between two wings is, by their float64 traces."""
    assert a.request["precision"] == b.request["precision"] == "float64"
    first = first_difference(a, b, tolerance, gradients)
    if first is None:
        return Verdict("rounding")
    if first.name.startswith("parameter/") and not first.backward:
        return Verdict("semantic", first)  # the oracle takes parameters as they come
    distances = distances_to_oracle(a, b, first)
    allowed = SHARE if first.backward else tolerance
    departs = tuple(name for name, apart in distances.items() if not apart <= allowed)
    return Verdict("semantic", first, departs)


def values(trace: Trace) -> Arrays:
    """The oracle's tensors for the parameters and the batch of a trace, in float64."""
    head = "parameter/"
    arrays = {n.removeprefix(head): a for n, a in trace.values.items() if n.startswith(head)}
    images, labels = trace.values["image"], trace.labels
    return reference.forward(trace.spec, arrays, images, labels, train=trace.train)


def distances_to_oracle(a: Trace, b: Trace, first: First) -> dict[str, float]:
    """Name of each trace -> its distance from the oracle where they first differ.

    A value by the ladder's measure; a gradient as a share of the gap between the two, along
    that gap, so that the right one has 0 and the wrong one 1.
    """
    name = first.name
    if first.backward:
        slopes = {trace.name: trace.gradients.get(name) for trace in (a, b)}
        return _shares(a, name, slopes)
    expected = values(a)
    return {trace.name: differences(expected, trace.values, [name])[name] for trace in (a, b)}


def _shares(trace: Trace, name: str, slopes: dict[str, np.ndarray | None]) -> dict[str, float]:
    shape = trace.values[name].shape if name in trace.values else None
    whole = {
        who: x is not None and x.shape == shape and bool(np.isfinite(x).all())
        for who, x in slopes.items()
    }
    if not all(whole.values()):
        return {who: 0.0 if good else float("inf") for who, good in whole.items()}
    one, other = (np.asarray(x, np.float64) for x in slopes.values())
    gap = one - other
    right = slope_along(trace, name, gap)
    scale = (gap * gap).sum()
    return {
        who: float(abs((np.asarray(x) * gap).sum() - right) / scale) for who, x in slopes.items()
    }


def slope_along(trace: Trace, name: str, direction: np.ndarray) -> float:
    """The oracle's derivative of the loss by a tap or a parameter along a direction."""
    head = "parameter/"
    arrays = {n.removeprefix(head): a for n, a in trace.values.items() if n.startswith(head)}
    point = arrays.get(name.removeprefix(head), np.zeros_like(direction))

    def loss(x: np.ndarray) -> np.ndarray:
        def tap(tapped: str, value: np.ndarray) -> np.ndarray:
            return value + x if tapped == name else value

        changed = {**arrays, name.removeprefix(head): x} if name.startswith(head) else arrays
        given = trace.values["image"], trace.labels
        return reference.forward(trace.spec, changed, *given, tap, train=trace.train)["loss"]

    return float(reference.derivative(loss, point, direction))
