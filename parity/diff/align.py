"""Tensors of two traces that are equal, found by their values: no names are needed.

Everything before the first difference agrees to rounding. A tensor of few values (zeros, a scalar,
a mask) may equal another by accident: it is *weak*, and counts only between neighbours that match.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from parity.diff.layouts import Layout, between, of_axes, shortest
from parity.diff.tape import Entry
from parity.diff.trace import Trace

# What two right computations may be apart, by the coarsest dtype on the way: some hundred
# roundings, or of float64 more, as one far below any mistake costs nothing there.
TOLERANCES = {"float64": 1e-9, "float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}
FEW = 5


@dataclass(frozen=True)
class Match:
    """Two equal tensors: the right one's number and the layout, None for an order that is none."""

    right: int
    layout: Layout | None


class Tolerances:
    """How far apart equal tensors may be, for each array of a trace.

    The coarsest float that an array was computed from counts, or what was asked for.
    """

    def __init__(
        self,
        trace: Trace,
        asked: float | None,
        measured: dict[str, float],
        floor: float = 0.0,
    ) -> None:
        self._entries: dict[int, float] = {}
        coarsest = 0.0
        for number, node in enumerate(trace.nodes):
            if node.entry < 0:
                continue
            dtype = trace.entries[node.entry].dtype
            # The inputs' own dtype says nothing of what is computed from them.
            if node.role != "given":
                coarsest = max(coarsest, TOLERANCES.get(dtype, 0.0))
            bound = measured.get(trace.labels[number], 0.0)
            own = max(coarsest or TOLERANCES["float64"], bound, floor)
            self._entries.setdefault(node.entry, own if asked is None else asked)
        self._rest = max(TOLERANCES["float64"], floor) if asked is None else asked

    @property
    def largest(self) -> float:
        """Of any array."""
        return max((*self._entries.values(), self._rest))

    def of(self, entry: int) -> float:
        """Of an array."""
        return self._entries.get(entry, self._rest)


class Alignment:
    """Which arrays of two traces are equal, in which layout.

    Args:
        left: A trace.
        right: Another.
        tolerances: Of the arrays of each.
    """

    def __init__(self, left: Trace, right: Trace, tolerances: tuple[Tolerances, Tolerances]):
        self.left, self.right, self.tolerances = left, right, tolerances
        # Number of numbers -> the layouts that arrays of so many were seen in.
        self.layouts: dict[int, list[Layout]] = {}
        self._factors = {n for each in left.entries for n in each.shape if n > 1}
        numbers = sorted({n.entry for n in right.nodes if n.entry >= 0})
        self._candidates = np.array(numbers, int)
        self._sizes = np.array([right.entries[n].size for n in numbers])
        self._moments = np.array([right.entries[n].moments for n in numbers]).reshape(-1, 4)
        self._allowed = np.array([tolerances[1].of(n) for n in numbers])
        self._odd = np.array([right.entries[n].odd for n in numbers])
        self.matches: dict[int, list[Match]] = {}
        for node in left.nodes:
            if node.entry >= 0 and node.entry not in self.matches:
                self.matches[node.entry] = list(self._equal(node.entry))

    def tolerance(self, left: int, right: int) -> float:
        """Of a left and a right array."""
        return max(self.tolerances[0].of(left), self.tolerances[1].of(right))

    def guesses(self, entry: Entry) -> list[Layout]:
        """The layouts that arrays of this size were seen in."""
        return self.layouts.get(entry.size, [])

    def flattened(self, entry: Entry) -> Iterator[Layout]:
        """Layouts that a flattening has: channels last, or an axis as two that are exchanged."""
        last = (0, *range(2, len(entry.shape)), 1)  # channels first to channels last
        if len(entry.shape) > 2:
            yield of_axes(entry.shape, last)
        for axis, size in enumerate(entry.shape):
            for factor in self._factors:
                if size % factor == 0 and factor < size:
                    before, after = entry.shape[:axis], entry.shape[axis + 1 :]
                    split = (*before, factor, size // factor, *after)
                    order = list(range(len(split)))
                    order[axis], order[axis + 1] = axis + 1, axis
                    yield shortest(split, order)

    def _equal(self, number: int) -> Iterable[Match]:
        entry = self.left.entries[number]
        if not self._candidates.size:
            return
        # Equal arrays have equal moments, to twice what their numbers may be apart.
        allowed = 2 * np.maximum(self._allowed, self.tolerances[0].of(number))
        apart = np.abs(self._moments - np.array(entry.moments)).max(1)
        fits = (self._sizes == entry.size) & (self._odd == entry.odd)
        fits &= apart <= allowed * max(entry.scale, 1e-300) + 1e-300
        for other in self._candidates[fits]:
            if (match := self.compare(number, int(other))) is not None:
                yield match

    def compare(self, left: int, right: int) -> Match | None:
        """Whether two arrays of one size are equal."""
        a, b = self.left.entries[left], self.right.entries[right]
        slack = self.tolerance(left, right) * max(a.scale, b.scale)
        known = self.guesses(a)
        found = between(
            self.left.array(left), self.right.array(right), slack, known, self.flattened(a)
        )
        if found is None:
            return None
        if not isinstance(found, Layout):
            return Match(right, None)
        if a.distinct >= FEW and found not in known:
            self.layouts.setdefault(a.size, []).append(found)
        return Match(right, found)


def weak(entry: Entry) -> bool:
    """Whether a tensor has so few values that another may equal it by accident."""
    return entry.distinct < FEW
