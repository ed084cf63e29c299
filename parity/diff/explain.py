"""The first difference in words: the module, the place in it, the kind, facts and suspects."""

import itertools
import math

import numpy as np

from parity.diff import kinds, owned
from parity.diff.align import Alignment, Match
from parity.diff.first import Found, Pair
from parity.diff.hints import suspects
from parity.diff.kinds import Kind
from parity.diff.layouts import SAME, Layout, of_axes
from parity.diff.parameters import Parameters
from parity.diff.report import Difference, Row
from parity.diff.tape import Node
from parity.diff.trace import Trace
from parity.traces.measure import difference as measure


def difference(
    alignment: Alignment,
    parameters: Parameters,
    found: Found,
    random: list[tuple[str, str]],
) -> Difference:
    """Names and explains the first pair that differs."""
    assert found.first is not None
    left, right, pair = alignment.left, alignment.right, found.first
    node = left.nodes[pair.left]
    a, b = left.of(pair.left), right.of(pair.right)
    module, place = where(left, pair.left, (right, pair.right))
    layout = _likeliest(alignment, pair, found)
    arranged = b if layout is None else layout.back(b, a.shape)
    tolerance = alignment.tolerance(node.entry, right.nodes[pair.right].entry)
    matches = alignment.matches.get(node.entry, [])
    kind = _kind(left, right, pair, a, arranged, tolerance, matches)
    facts, name = list(kind.facts), kind.name
    if told := _activations(left, found, node, a, arranged, tolerance):
        alone = any("something else" in each for each in told)
        facts, name = (facts + told, name) if alone else (told, kinds.SEMANTIC)
    own = owned.own(left, right, parameters, module, node, pair)
    if own:
        name, facts = kinds.PARAMETER, own + facts
    elif name == kinds.SEMANTIC and node.role == "output":
        if (order := owned.rows(alignment, parameters, found, module)) is not None:
            name, facts = kinds.ORDER, [order]
        elif (
            kind := owned.less_bias(left, parameters, module, a, arranged, tolerance)
        ) is not None:
            name, facts = kind.name, list(kind.facts)
    if random:
        name = kinds.RANDOM
        facts = [
            f"{side}: {label} is another number in a second pass of the same model"
            for side, label in random
        ]
    call = node.call if node.role != "input" else left.calls[node.call].parent
    words = f"{left.calls[call].kind} {module}" if call >= 0 else module
    if right.nodes[pair.right].call >= 0:
        words = f"{right.calls[right.nodes[pair.right].call].kind} {words}"
    around = f"{place} {right.nodes[pair.right].name}"
    words = f"{words} {around if node.role == 'input' else ''}"
    if told:  # the facts name the activations; a gelu has two forms
        words = "gelu" if any("gelu" in each for each in told) else ""
    hints = suspects(name, words)
    entries = left.entries[node.entry], right.entries[right.nodes[pair.right].entry]
    said = "" if layout is None else layout.said(entries[0].shape, entries[1].shape)
    apart = measure(a, arranged) if a.shape == arranged.shape else math.inf
    row = Row(left.labels[pair.left], right.labels[pair.right], said, apart)
    return Difference(
        module, place, row, (entries[0].shape, entries[1].shape), name, tuple(facts),
        tuple(hints), False, _last(alignment, found.last),
    )  # fmt: skip


def where(trace: Trace, number: int, other: tuple[Trace, int] | None = None) -> tuple[str, str]:
    """The module that computes a node, and where in it, in words; `other` is its counterpart."""
    node = trace.nodes[number]
    calls = trace.calls
    if node.role == "output":
        call = node.call
        inside = [c for c in range(call + 1, len(calls)) if calls[c].parent == call]
        name = calls[call].name
        return name, f"{name}, after {calls[inside[-1]].name}" if inside else name
    if node.role == "input":
        call, around = node.call, calls[node.call].parent
        # Of a module that hands its input on, it is the one around it that was given it.
        theirs = -1 if other is None else other[0].nodes[other[1]].call
        while around >= 0 and trace.given.get(around) == node.entry and theirs >= 0:
            assert other is not None
            theirs = other[0].calls[theirs].parent
            if other[0].given.get(theirs) != other[0].nodes[other[1]].entry:
                break
            call, around = around, calls[around].parent
        before = calls[call].name
        name = calls[around].name if around >= 0 else "the function around the model"
        earlier = [c for c in range(call) if calls[c].parent == around]
        if earlier:
            return name, f"{name}, between {calls[earlier[-1]].name} and {before}"
        return name, f"{name}, before {before}"
    if node.role == "given":
        return "inputs", "the inputs"
    name = calls[node.call].name if node.call >= 0 else "model"
    if node.role == "record":
        name = name if node.call >= 0 else node.name
        return name, f"{name}, at {node.name}" if name != node.name else f"at {name}"
    return name, "the final output"


def _kind(
    left: Trace,
    right: Trace,
    pair: Pair,
    a: np.ndarray,
    b: np.ndarray,
    tolerance: float,
    matches: list[Match],
) -> Kind:
    node = left.nodes[pair.left]
    if node.role == "given":
        return Kind(kinds.INPUTS, ("the two sides are given other numbers",))
    if node.role == "final" and a.size == b.size:
        entry = right.nodes[pair.right].entry
        shapes = left.entries[node.entry].shape, right.entries[entry].shape
        for match in matches:
            if match.right == entry and match.layout is not None:
                return Kind(kinds.ORDER, (f"the same numbers with {match.layout.said(*shapes)}",))
    kind = kinds.classify(a, b, tolerance)
    dtypes = [t.entries[n.entry].dtype for t, n in
              ((left, node), (right, right.nodes[pair.right]))]  # fmt: skip
    sums = kinds.sums_to_one(a), kinds.sums_to_one(b) if a.shape == b.shape else []
    if sums[0] and sums[1] and sums[0] != sums[1]:
        text = f"sums to 1 along axis {sums[0][0]} on the left, {sums[1][0]} on the right"
        return Kind(kind.name, (*kind.facts, text))
    if len(set(dtypes)) > 1 and kind.name == kinds.SEMANTIC:
        return Kind(kind.name, (*kind.facts, f"{dtypes[0]} on the left, {dtypes[1]} on the right"))
    return kind


def _activations(
    left: Trace, found: Found, node: Node, a: np.ndarray, b: np.ndarray, tolerance: float
) -> list[str]:
    """Which activation of the last tensor that agrees each side is, where both are usual ones."""
    if found.last is None or a.shape != b.shape:
        return []
    x = left.of(found.last.left)
    names = [kinds.activation(x, y, max(tolerance, 1e-7)) for y in (a, b)]
    if names[0] == names[1] or (
        None in names and not any(n not in (None, "its input") for n in names)
    ):
        return []
    said = [name or "something else" for name in names]
    source = left.labels[found.last.left]
    return [f"of {source}, left is {said[0]} and right is {said[1]}"]


def _likeliest(alignment: Alignment, pair: Pair, found: Found) -> Layout | None:
    """The layout in which two differing tensors are nearest, of those that others have."""
    left, right = alignment.left, alignment.right
    a, b = left.of(pair.left), right.of(pair.right)
    if a.size != b.size:
        return None
    options = list(alignment.guesses(left.entries[left.nodes[pair.left].entry]))
    if a.shape == b.shape:
        options.append(SAME)
    order = found.declared.get(a.ndim)
    if order is not None and tuple(a.shape[n] for n in order) == b.shape:
        options.insert(0, of_axes(a.shape, order))
    if not options and a.ndim == b.ndim and a.ndim <= 5:
        options = [
            of_axes(a.shape, order)
            for order in itertools.permutations(range(a.ndim))
            if tuple(a.shape[n] for n in order) == b.shape
        ]
    if not options:
        return SAME

    def apart(layout: Layout) -> float:
        there = layout.back(b, a.shape)
        with np.errstate(invalid="ignore"):
            return float(np.nanmean(np.abs(a.astype(np.float64) - there)))

    return min(options, key=apart)


def _last(alignment: Alignment, pair: Pair | None) -> Row | None:
    if pair is None:
        return None
    left, right = alignment.left, alignment.right
    shapes = (
        left.entries[left.nodes[pair.left].entry].shape,
        right.entries[right.nodes[pair.right].entry].shape,
    )
    a, b = left.of(pair.left), right.of(pair.right)
    there = (pair.layout or SAME).arrange(a, b.shape)
    said = "" if pair.layout is None else pair.layout.said(*shapes)
    return Row(left.labels[pair.left], right.labels[pair.right], said, measure(there, b))


def rounding(
    traces: tuple[tuple[Trace, Trace], tuple[Trace, Trace]],
    pair: Pair,
    rows: list[Row],
    number: int,
) -> Difference:
    """What differs in float32 alone, and which side is the further from its own float64."""
    (left64, right64), (left, right) = traces
    row = rows[number]
    away = []
    for double, single, label in ((left64, left, row.left), (right64, right, row.right)):
        one, other = double.labels.index(label), single.labels.index(label)
        away.append(measure(double.of(one), single.of(other)))
    facts = [
        "in float64 they agree",
        f"from its own float64 the left is {away[0]:.1e} away, the right {away[1]:.1e}",
    ]
    if max(away) > 30 * min(away):
        facts.append(f"the {'left' if away[0] > away[1] else 'right'} computes more coarsely")
    module, place = where(left64, pair.left)
    shapes = (
        left64.entries[left64.nodes[pair.left].entry].shape,
        right64.entries[right64.nodes[pair.right].entry].shape,
    )
    apart = Row(row.left, row.right, row.layout, row.float32 or math.inf, row.float32)
    return Difference(
        module, place, apart, shapes, kinds.ROUNDING, tuple(facts),
        tuple(suspects(kinds.ROUNDING, module)), False, rows[number - 1] if number else None,
    )  # fmt: skip
