"""The first difference in words: the module, the place in it, the kind, facts and suspects."""

import itertools
import math

import numpy as np

from parity.diff import kinds
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

MOST = 6  # names in a sentence


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
    own = _own_parameters(left, right, parameters, module, node, pair)
    if own:
        name, facts = kinds.PARAMETER, own + facts
    elif name == kinds.SEMANTIC and node.role == "output":
        if (order := _rows(alignment, parameters, found, module)) is not None:
            name, facts = kinds.ORDER, [order]
        elif (kind := _less_bias(left, parameters, module, a, arranged, tolerance)) is not None:
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
    hints = suspects(name, f"{words} {around if node.role == 'input' else ''}")
    entries = left.entries[node.entry], right.entries[right.nodes[pair.right].entry]
    said = "" if layout is None else layout.said(entries[0].shape, entries[1].shape)
    apart = measure(a, arranged) if a.shape == arranged.shape else math.inf
    row = Row(left.labels[pair.left], right.labels[pair.right], said, apart)
    return Difference(
        module, place, row, (entries[0].shape, entries[1].shape), name, tuple(facts),
        tuple(hints), False, _last(alignment, found.last),
    )  # fmt: skip


def merged(left: Trace, right: Trace, parameters: Parameters) -> bool:
    """Whether some parameters are not the other side's to the last bit.

    They may be sums of them, or a normalisation folded into a kernel, which float32 rounded.
    """
    return (
        bool(parameters.sums)
        or len(parameters.left_alone) != len(parameters.right_alone)
        or not all(_exact(left, right, name, parameters) for name in parameters.pairs)
    )


def _exact(left: Trace, right: Trace, name: str, parameters: Parameters) -> bool:
    """Whether a parameter's partner has the same numbers to the last bit."""
    other, layout = parameters.pairs[name][0]
    a, b = (t.array(t.parameters[n]["entry"]) for t, n in ((left, name), (right, other)))
    return bool((layout.arrange(a, b.shape) == b).all())


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


def _own_parameters(
    left: Trace, right: Trace, parameters: Parameters, module: str, node: Node, pair: Pair
) -> list[str]:
    """Sentences on the parameters of the module that have no partner, or stand otherwise."""
    if node.role != "output":
        return []
    theirs = right.nodes[pair.right].name
    said = []
    mine = parameters.of(module, parameters.left_alone)
    others = parameters.of(theirs, parameters.right_alone)
    for name in mine:
        near = _nearest(left, right, name, others)
        said.append(f"{name} has no equal on the right{near}")
    if not mine:
        said += [f"{name} has no equal on the left" for name in others]
    for name in parameters.of(module, parameters.turned):
        said.append(f"{name} stands otherwise than the other kernels of its rank")
    for copied, of in parameters.twice:
        if copied in parameters.of(theirs, list(right.parameters)) and mine:
            said.append(f"{copied} on the right holds the values of {of}")
    return said


def _rows(alignment: Alignment, parameters: Parameters, found: Found, module: str) -> str | None:
    """A kernel whose rows do not follow the order in which its input was flattened."""
    left, right = alignment.left, alignment.right
    if found.last is None or found.last.layout is None:
        return None
    given = [t.entries[t.nodes[n].entry].shape for t, n in
             ((left, found.last.left), (right, found.last.right))]  # fmt: skip
    if found.last.layout.plain or found.last.layout.axes(*given) is not None:
        return None
    for name in parameters.of(module, list(parameters.pairs)):
        other, layout = parameters.pairs[name][0]
        a = left.entries[left.parameters[name]["entry"]].shape
        b = right.entries[right.parameters[other]["entry"]].shape
        if len(a) > 1 and layout.axes(a, b) is not None:
            said = found.last.layout.said(*given)
            return f"its input agrees {said}, an order that the rows of {name} do not follow"
    return None


def _less_bias(
    left: Trace,
    parameters: Parameters,
    module: str,
    a: np.ndarray,
    b: np.ndarray,
    tolerance: float,
) -> Kind | None:
    """The kind of a difference once the module's own bias is taken off both sides."""
    if a.shape != b.shape:
        return None
    for name in parameters.of(module, list(parameters.pairs)):
        bias = left.array(left.parameters[name]["entry"]).astype(np.float64)
        for axis in {a.ndim - 1, 1} if bias.ndim == 1 and a.ndim > 1 else ():
            if a.shape[axis] != bias.size:
                continue
            spread = bias.reshape([-1 if n == axis else 1 for n in range(a.ndim)])
            kind = kinds.classify(a - spread, b - spread, tolerance)
            if kind.name == kinds.SCALE:
                return Kind(kind.name, tuple(f"less {name}, {fact}" for fact in kind.facts))
    return None


def _nearest(left: Trace, right: Trace, name: str, others: list[str]) -> str:
    """What the likeliest partner of a parameter is like."""
    a = left.array(left.parameters[name]["entry"])
    for other in others:
        b = right.array(right.parameters[other]["entry"])
        if a.size != b.size or a.size == 0:
            continue
        best = None
        for order in itertools.permutations(range(a.ndim)) if a.ndim <= 5 else ():
            if tuple(a.shape[n] for n in order) == b.shape:
                kind = kinds.classify(a.transpose(order), b, 1e-6)
                if kind.facts and (best is None or kind.name != kinds.SEMANTIC):
                    best = kind
        return f"; {other} there: {best.facts[0]}" if best else f"; {other} there is another"
    return ""


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


def parameters(left: Trace, right: Trace, pairs: Parameters, different: bool) -> list[str]:
    """What is odd of the two sets of parameters, as sentences."""
    said = []
    for side, other, names in (
        ("left", "right", pairs.left_alone),
        ("right", "left", pairs.right_alone),
    ):
        if names and (left.parameters and right.parameters):
            some = ", ".join(names[:MOST]) + f" and {len(names) - MOST} more" * (len(names) > MOST)
            said.append(f"{side}, without an equal on the {other}: {some}")
    if different:
        said += [f"{copied} on the right holds the values of {of}" for copied, of in pairs.twice]
        said += [
            f"{name} stands otherwise than the other kernels of its rank" for name in pairs.turned
        ]
    for whole, names in pairs.sums.items():
        said.append(f"{whole} is made of {' and '.join(names)} of the other side")
    for whole, names in pairs.parts.items():
        said.append(f"{whole} is {', '.join(names)} of the other side, one behind the other")
    return said
