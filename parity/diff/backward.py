"""The backward pass: gradients of sum(output * fixed random numbers) at every pair that agrees."""

from collections.abc import Callable

import numpy as np

from parity.diff import explain, kinds
from parity.diff.align import TOLERANCES, Alignment, weak
from parity.diff.first import Found, Pair
from parity.diff.hints import suspects
from parity.diff.layouts import SAME, Layout
from parity.diff.parameters import Parameters
from parity.diff.report import Difference, Row
from parity.diff.trace import DiffError, Trace
from parity.traces.measure import difference

# A gradient passes every layer twice: the ladder's room between its rungs 2 and 3, and more.
ROOM = 10
# Of the largest gradient times its tolerance: what is below that on both sides, and not alike, is
# what rounding left of a 0. Activations behind a uniform softmax have such a gradient.
ROUNDING = 1e-3

Run = Callable[[dict[str, np.ndarray], dict[str, np.ndarray]], tuple[Trace, Trace]]


def compare(
    alignment: Alignment,
    parameters: Parameters,
    found: Found,
    run: Run,
    asked: float | None,
    notes: list[str],
) -> tuple[Difference | None, list[Row]]:
    """Runs both sides backwards; returns the first gradient that differs and those that agree.

    A note is added where gradients are rounding on both sides, which nothing is concluded from.
    """
    left, right = run(*_weights(alignment, found))
    if not left.gradients and not right.gradients:
        raise DiffError(
            "neither side has a gradient: everything is detached, or made of whole numbers"
        )
    places = [{label: n for n, label in enumerate(t.labels)} for t in (left, right)]
    rows: list[Row] = []
    rounding: list[Row] = []
    floor = _floor(left, right)
    # From the loss backwards: in the reverse order of execution.
    for pair in reversed(found.pairs):
        role = alignment.left.nodes[pair.left].role
        theirs = alignment.right.nodes[pair.right].role
        if role not in ("output", "record", "given") or theirs not in ("output", "record", "given"):
            continue
        if weak(alignment.left.entries[alignment.left.nodes[pair.left].entry]):
            continue
        labels = alignment.left.labels[pair.left], alignment.right.labels[pair.right]
        slopes = [
            t.gradients.get(str(p.get(label)))
            for t, p, label in zip((left, right), places, labels, strict=True)
        ]
        wrong = _compared(left, right, slopes, labels, pair.layout, asked, rows)
        if wrong is not None and _below(floor, left, right, slopes):
            rounding.append(wrong[0])
        elif wrong is not None:
            return _difference(alignment, pair, wrong, rows), rows
    for name, partners in parameters.pairs.items():
        for other, layout in partners[:1]:
            slopes = [left.gradients.get(name), right.gradients.get(other)]
            if None in slopes or (name in left.parameters) != (other in right.parameters):
                continue
            labels = f"parameter {name}", f"parameter {other}"
            wrong = _compared(left, right, slopes, labels, layout, asked, rows)
            if wrong is None or len(partners) > 1:  # of several equal ones it may be another's
                continue
            if not _below(floor, left, right, slopes):
                return _of_parameter(name, wrong, rows), rows
            rounding.append(wrong[0])
    if rounding:
        notes.append(
            f"rounding of 0, below {floor:.1e} on both sides and not compared: the gradient at "
            f"{rounding[0].left}" + f" and {len(rounding) - 1} more" * (len(rounding) > 1)
        )
    return None, rows


def _floor(left: Trace, right: Trace) -> float:
    """Below it a gradient is rounding, by the largest of the side with the smaller gradients."""
    largest = (
        max((t.entries[n].scale for n in t.gradients.values()), default=0.0) for t in (left, right)
    )
    return ROUNDING * TOLERANCES[left.precision] * min(largest)


def _below(floor: float, left: Trace, right: Trace, slopes: list[int | None]) -> bool:
    """Whether two gradients, None being 0, are finite and below a floor."""
    entries = [t.entries[n] for t, n in zip((left, right), slopes, strict=True) if n is not None]
    return all(entry.odd == 0 and entry.scale < floor for entry in entries)


def _weights(
    alignment: Alignment, found: Found
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Random numbers for each pair of final outputs, the right's in the right's layout."""
    mine: dict[str, np.ndarray] = {}
    theirs: dict[str, np.ndarray] = {}
    for number, (pair, _) in enumerate(found.finals):
        a, b = alignment.left.of(pair.left), alignment.right.of(pair.right)
        if a.dtype.kind != "f":
            continue
        generator = np.random.Generator(np.random.Philox(number))
        weight = generator.standard_normal(a.shape)
        layout = pair.layout or SAME
        mine[alignment.left.nodes[pair.left].part] = weight
        theirs[alignment.right.nodes[pair.right].part] = layout.arrange(weight, b.shape)
    if not mine:
        raise DiffError("no final output is of floats, so there is no gradient to compare")
    return mine, theirs


def _compared(
    left: Trace,
    right: Trace,
    slopes: list[int | None],
    labels: tuple[str, str],
    layout: Layout | None,
    asked: float | None,
    rows: list[Row],
) -> tuple[Row, kinds.Kind] | None:
    """Adds a row where two gradients agree; returns the row and the kind where they do not."""
    mine, theirs = slopes
    zero = [n is None or not t.array(n).any() for t, n in zip((left, right), slopes,
                                                                 strict=True)]  # fmt: skip
    if all(zero):
        return None
    if mine is None or theirs is None or any(zero):
        lost = "left" if zero[0] else "right"
        row = Row(*labels, "", float("inf"))
        return row, kinds.Kind(kinds.DETACHED, (f"none, or zero, on the {lost}",))
    a, b = left.array(mine), right.array(theirs)
    there = b
    if a.size == b.size:
        there = (layout or SAME).back(b, a.shape)
    tolerance = ROOM * TOLERANCES[left.precision] if asked is None else asked
    apart = difference(a, there)
    row = Row(*labels, "" if layout is None else layout.said(a.shape, b.shape), apart)
    if apart <= tolerance:
        rows.append(row)
        return None
    return row, kinds.classify(a, there, tolerance)


def _difference(
    alignment: Alignment, pair: Pair, wrong: tuple[Row, kinds.Kind], rows: list[Row]
) -> Difference:
    row, kind = wrong
    left = alignment.left
    node = left.nodes[pair.left]
    entry = node.entry
    users = [n.name for n in left.nodes if n.entry == entry and n.role == "input"]
    module = users[-1] if users else explain.where(left, pair.left)[0]
    if node.role == "output" and not users:
        parent = left.calls[node.call].parent
        module = left.calls[parent].name if parent >= 0 else module
    place = f"the backward pass of {module}, the gradient at {row.left}"
    shapes = left.entries[entry].shape, alignment.right.entries[
        alignment.right.nodes[pair.right].entry].shape  # fmt: skip
    words = next((c.kind for c in left.calls if c.name == module), "")
    hints = tuple(suspects(kind.name, f"{words} {module}"))
    last = rows[-1] if rows else None
    return Difference(module, place, row, shapes, kind.name, kind.facts, hints, True, last)


def _of_parameter(name: str, wrong: tuple[Row, kinds.Kind], rows: list[Row]) -> Difference:
    row, kind = wrong
    module = name.rpartition(".")[0] or "model"
    place = f"the gradient of {name}, of {module}"
    hints = tuple(suspects(kind.name, module))
    last = rows[-1] if rows else None
    return Difference(module, place, row, ((), ()), kind.name, kind.facts, hints, True, last)
