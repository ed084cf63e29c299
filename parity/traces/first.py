"""The first tensor that differs: in order forward, then backward."""

from collections.abc import Mapping
from dataclasses import dataclass

from parity.traces.measure import difference, differences
from parity.traces.recording import Trace


@dataclass(frozen=True)
class First:
    """The first tensor that differs: name, pass, difference and tolerance."""

    name: str
    backward: bool
    difference: float
    tolerance: float

    def __str__(self) -> str:
        return f"gradient at {self.name}" if self.backward else self.name


def first_difference(
    a: Trace, b: Trace, tolerance: float, gradients: float | None = None
) -> First | None:
    """The first tensor of two traces that differs by more than `tolerance`.

    None where none does.

    The values are walked in the order of execution, and where they all agree the gradients from
    the loss backwards; `gradients` is the tolerance there, unless given the same. A tensor that
    one trace lacks differs.
    """
    forward = differences(a.values, b.values)
    if (name := first_beyond(forward, tolerance)) is not None:
        return First(name, False, forward[name], tolerance)
    return first_gradient(a, b, tolerance if gradients is None else gradients)


def first_gradient(a: Trace, b: Trace, tolerance: float) -> First | None:
    """The first gradient that differs, from the loss backwards."""
    for name in reversed(dict.fromkeys((*b.gradients, *a.gradients))):
        apart = float("inf")
        if name in a.gradients and name in b.gradients:
            apart = difference(a.gradients[name], b.gradients[name])
        if not apart <= tolerance:
            return First(name, True, apart, tolerance)
    return None


def first_beyond(distances: Mapping[str, float], tolerance: float) -> str | None:
    """The first name whose difference is not within the tolerance."""
    return next((name for name, apart in distances.items() if not apart <= tolerance), None)
