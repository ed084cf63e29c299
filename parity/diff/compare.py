"""Two sides compared: recorded, aligned, the first difference named and explained.

The verdict is float64's where both sides can be cast: what differs there means something else, and
what differs in float32 alone is rounding. Where one side cannot, the models as they are, and the
bound is what moving the inputs by one rounding does to each tensor.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from parity.diff import backward, explain, owned
from parity.diff.align import TOLERANCES, Alignment, Tolerances
from parity.diff.first import Found, Search
from parity.diff.layouts import Layout
from parity.diff.parameters import Parameters
from parity.diff.parameters import pair as pair_parameters
from parity.diff.report import Difference, Report, Row
from parity.diff.sides import Request, Side, Uncastable
from parity.diff.trace import DiffError, Trace
from parity.traces.measure import difference

PRECISIONS = ("both", "float64", "float32")
# A tensor may move by this much more than under one rounding of the inputs: every operation rounds.
ROUNDINGS = 16
# What counts as rounding in float64 where parameters were merged in float32, step by step.
FLOORS = (1e-6, 1e-5)


def compare(
    left: Side,
    right: Side,
    *,
    precision: str = "both",
    gradients: bool = False,
    tolerance: float | None = None,
) -> Report:
    """Compares two sides.

    Args:
        left: A side.
        right: Another.
        precision: float64 for the verdict alone, float32 for the models as they are, or both.
        gradients: Whether to compare a backward pass too, where the forward passes agree.
        tolerance: The largest difference that counts as rounding; unless given, by dtype.

    Returns:
        The report.

    Raises:
        DiffError: Where a side cannot be run.
    """
    if precision not in PRECISIONS:
        raise DiffError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    with tempfile.TemporaryDirectory(prefix="twincaps-diff-") as folder:
        return _Comparison(left, right, Path(folder), tolerance).report(precision, gradients)


class _Comparison:
    """One comparison: its sides, the folder of its traces, and what a reader must be told."""

    def __init__(self, left: Side, right: Side, folder: Path, tolerance: float | None) -> None:
        self.sides, self.folder, self.asked = (left, right), folder, tolerance
        self.notes: list[str] = []

    def traces(self, request: Request, name: str) -> tuple[Trace, Trace]:
        """Both sides recorded in one way."""
        one, other = (
            side.trace(self.folder / f"{name}-{side.where}.npz", request) for side in self.sides
        )
        return one, other

    def report(self, precision: str, gradients: bool) -> Report:
        """The whole comparison."""
        used, (left, right) = self._verdict_traces(precision)
        bounds = self._bounds(left, right) if used == "float32" else ({}, {})
        parameters = pair_parameters(left, right)
        alignment, found = self._aligned(left, right, bounds, parameters)
        rows = [_row(left, right, pair.left, pair.right, pair.layout) for pair in found.pairs]
        first: Difference | None = None
        slopes: list[Row] = []
        if found.first is not None:
            again = self._random(used, left, right)
            first = explain.difference(alignment, parameters, found, again)
        else:
            if used == "float64" and precision == "both":
                first, rows = self._rounding(alignment, found, rows)
            if gradients and first is None:
                first, slopes = backward.compare(
                    alignment, parameters, found, self._both(used), self.asked, self.notes
                )
        self._note(left, right, found)
        return Report(
            equal=first is None,
            frameworks=(left.framework, right.framework),
            precision=used,
            tolerance=max(t.largest for t in alignment.tolerances),
            first=first,
            rows=rows,
            alone=found.alone,
            counts=(len(left.makers), len(right.makers)),
            parameters=owned.odd(left, right, parameters, first is not None),
            gradients=slopes,
            notes=self.notes,
        )  # fmt: skip

    def _aligned(
        self,
        left: Trace,
        right: Trace,
        bounds: tuple[dict[str, float], dict[str, float]],
        parameters: Parameters,
    ) -> tuple[Alignment, Found]:
        """The alignment and the first difference; again, more coarsely, after merged parameters."""

        def aligned(floor: float) -> tuple[Alignment, Found]:
            one, other = (
                Tolerances(trace, self.asked, measured, floor)
                for trace, measured in zip((left, right), bounds, strict=True)
            )
            alignment = Alignment(left, right, (one, other))
            return alignment, Search(alignment, parameters).run()

        alignment, found = aligned(0.0)
        if found.first is None or self.asked is not None:
            return alignment, found
        for floor in FLOORS if owned.merged(left, right, parameters) else ():
            if found.first is None:
                break
            coarser = aligned(floor)
            later = coarser[1].first
            if later is None or later.left > found.first.left:
                alignment, found = coarser
                self.notes = [
                    "parameters were merged in float32 (biases added, a normalisation folded), so "
                    f"that in float64 rounding is up to {floor:g}; merge in float64 to see further"
                ]
        return alignment, found

    def _both(self, used: str) -> Callable[[dict, dict], tuple[Trace, Trace]]:
        def run(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> tuple[Trace, Trace]:
            traces = [
                side.trace(self.folder / f"back-{side.where}.npz", Request(used, weights=weights))
                for side, weights in zip(self.sides, (one, other), strict=True)
            ]
            return traces[0], traces[1]

        return run

    def _verdict_traces(self, precision: str) -> tuple[str, tuple[Trace, Trace]]:
        if precision != "float32":
            try:
                return "float64", self.traces(Request("float64"), "float64")
            except Uncastable as error:
                traces = self.traces(Request("float32"), "float32")  # or raises what is wrong
                self.notes.append(f"not compared in float64: {error}")
                return "float32", traces
        return "float32", self.traces(Request("float32"), "float32")

    def _bounds(self, left: Trace, right: Trace) -> tuple[dict[str, float], dict[str, float]]:
        """Label -> how far one rounding of the inputs moves a tensor, of each side."""
        bounds = []
        for side, trace in zip(self.sides, (left, right), strict=True):
            moves: dict[str, float] = {}
            try:
                path = self.folder / f"moved-{side.where}.npz"
                moved = side.trace(path, Request("float32", perturbed=True))
            except DiffError:
                bounds.append(moves)
                continue
            places = {label: n for n, label in enumerate(moved.labels)}
            for number, label in enumerate(trace.labels):
                if label in places:
                    apart = difference(trace.of(number), moved.of(places[label]))
                    moves[label] = ROUNDINGS * apart if apart < 1e-2 else 0.0
            bounds.append(moves)
        return bounds[0], bounds[1]

    def _random(self, used: str, left: Trace, right: Trace) -> list[tuple[str, str]]:
        """Side and first label of what is another number in a second pass of the same model."""
        different = []
        for side, trace in zip(self.sides, (left, right), strict=True):
            try:
                second = side.trace(self.folder / f"again-{side.where}.npz", Request(used))
            except DiffError:
                continue
            if second.path == trace.path:  # a file
                continue
            places = {label: n for n, label in enumerate(second.labels)}
            limit = TOLERANCES["float32"]
            for number, label in enumerate(trace.labels):
                here = places.get(label)
                if here is not None and not difference(trace.of(number), second.of(here)) <= limit:
                    different.append((side.where, label))
                    break
        return different

    def _rounding(
        self, alignment: Alignment, found: Found, rows: list[Row]
    ) -> tuple[Difference | None, list[Row]]:
        """The same pairs of the models as they are: what differs there alone is rounding."""
        try:
            left, right = self.traces(Request("float32"), "as-is")
        except DiffError as error:
            self.notes.append(f"not compared as they are: {error}")
            return None, rows
        both = alignment.left, alignment.right
        places = [{label: n for n, label in enumerate(t.labels)} for t in (left, right)]
        limits = [Tolerances(t, self.asked, {}) for t in (left, right)]
        full, beyond = [], None
        finals = [pair for pair, _ in found.finals]
        pairs = [*found.pairs, *finals]
        rows = rows + [_row(*both, p.left, p.right, p.layout) for p in finals]
        for pair, row in zip(pairs, rows, strict=True):
            one, other = places[0].get(row.left), places[1].get(row.right)
            if one is None or other is None:
                full.append(row)
                continue
            apart = _apart(left, right, one, other, pair.layout)
            full.append(Row(row.left, row.right, row.layout, row.difference, apart))
            entries = left.nodes[one].entry, right.nodes[other].entry
            # Ten times what is allowed tensor by tensor: a deep network adds up its roundings.
            allowed = max(t.of(e) for t, e in zip(limits, entries, strict=True))
            allowed *= 1 if self.asked is not None else 10
            if beyond is None and not apart <= allowed:
                beyond = len(full) - 1
        count = len(found.pairs)
        allowed = 10 * TOLERANCES["float32"] if self.asked is None else self.asked
        if beyond is None or all((row.float32 or 0) <= allowed for row in full[count:]):
            return None, full[:count]
        first = explain.rounding((both, (left, right)), pairs[beyond], full, beyond)
        return first, full[: min(beyond, count)]

    def _note(self, left: Trace, right: Trace, found: Found) -> None:
        for where, trace in (("left", left), ("right", right)):
            if trace.untraced:
                some = ", ".join(trace.untraced[:3]) + ", ..." * (len(trace.untraced) > 3)
                self.notes.append(
                    f"{where}: recorded from inside a compiled region, by callbacks: {some}"
                )
            coarse = {"float32", "float16", "bfloat16"}
            if trace.precision == "float64":
                for number, node in enumerate(trace.nodes):
                    if (
                        node.role != "given"
                        and node.entry >= 0
                        and (trace.entries[node.entry].dtype in coarse)
                    ):
                        dtype = trace.entries[node.entry].dtype
                        self.notes.append(
                            f"{where}: {trace.labels[number]} is {dtype} in a float64 pass; from "
                            "there the tolerance is that dtype's"
                        )
                        break


def _apart(left: Trace, right: Trace, one: int, other: int, layout: Layout | None) -> float:
    a, b = left.of(one), right.of(other)
    if layout is None or a.size != b.size:
        return float("inf")
    return difference(layout.arrange(a, b.shape), b)


def _row(left: Trace, right: Trace, one: int, other: int, layout: Layout | None) -> Row:
    a = left.entries[left.nodes[one].entry].shape
    b = right.entries[right.nodes[other].entry].shape
    said = "" if layout is None else layout.said(a, b)
    apart = _apart(left, right, one, other, layout)
    return Row(left.labels[one], right.labels[other], said, apart)
