"""What parameters have to do with a difference, in words."""

import itertools

import ml_dtypes
import numpy as np

from parity.diff import kinds
from parity.diff.align import Alignment
from parity.diff.first import Found, Pair
from parity.diff.kinds import Kind
from parity.diff.parameters import Parameters
from parity.diff.tape import Node
from parity.diff.trace import Trace

MOST = 6  # names in a sentence


def own(
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


def rows(alignment: Alignment, parameters: Parameters, found: Found, module: str) -> str | None:
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


def less_bias(
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
                turned = a.transpose(order)
                for one, of, said in ((turned, b, f"it is {other}"), (b, turned, f"{other} is it")):
                    if dtype := _rounded(one, of):
                        return f"; {said} rounded to {dtype}"
                kind = kinds.classify(turned, b, 1e-6)
                if kind.facts and (best is None or kind.name != kinds.SEMANTIC):
                    best = kind
        return f"; {other} there: {best.facts[0]}" if best else f"; {other} there is another"
    return ""


def _rounded(a: np.ndarray, b: np.ndarray) -> str:
    """The dtype in which b has the numbers of a, of those that models are stored in."""
    for dtype in (ml_dtypes.bfloat16, np.float16):
        if np.array_equal(a, b.astype(dtype).astype(a.dtype)):
            return np.dtype(dtype).name
    return ""


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


def odd(left: Trace, right: Trace, pairs: Parameters, different: bool) -> list[str]:
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
