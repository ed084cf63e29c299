"""The two sets of parameters aligned by value: which have no partner, which stand the other way."""

import itertools
from collections import Counter
from dataclasses import dataclass

import numpy as np

from parity.diff.layouts import Layout, between, close, flat
from parity.diff.trace import Trace

# Copies are exact, but for a cast to a shorter float and back.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Parameters:
    """How parameters of two sides pair up.

    Attributes:
        pairs: Left name -> right names of equal values, with the layout.
        left_alone: Left names without a partner.
        right_alone: Right names without a partner.
        turned: Left names of kernels that stand otherwise than the others of their rank.
        parts: Left name -> right names that are its parts along an axis, or the other way round.
        sums: Name of one side's bias -> those of the other that it is made of, added up or in part.
        twice: Right names that hold the values of a left parameter that another holds too.
    """

    pairs: dict[str, list[tuple[str, Layout]]]
    left_alone: list[str]
    right_alone: list[str]
    turned: list[str]
    parts: dict[str, list[str]]
    twice: list[tuple[str, str]]
    sums: dict[str, list[str]]

    def of(self, module: str, names: list[str]) -> list[str]:
        """Those names that a module owns itself."""
        head = "" if module == "model" else f"{module}."
        return [n for n in names if n.startswith(head) and "." not in n[len(head) :]]


def pair(left: Trace, right: Trace) -> Parameters:
    """Aligns the parameters of two traces."""
    pairs: dict[str, list[tuple[str, Layout]]] = {}
    for name, held in left.parameters.items():
        for other, theirs in right.parameters.items():
            layout = _equal(left, held["entry"], right, theirs["entry"])
            if layout is not None:
                pairs.setdefault(name, []).append((other, layout))
    taken = {other for found in pairs.values() for other, _ in found}
    left_alone = [name for name in left.parameters if name not in pairs]
    right_alone = [name for name in right.parameters if name not in taken]
    parts = {
        **_parts(left, left_alone, right, right_alone),
        **_parts(right, right_alone, left, left_alone),
    }
    covered = {*parts, *(n for names in parts.values() for n in names)}
    sums = _merged(left, left_alone, right, right_alone) | _merged(
        right, right_alone, left, left_alone
    )
    covered |= {*sums, *(n for names in sums.values() for n in names)}
    twice = [
        (other, name)
        for name, found in pairs.items()
        for other, _ in found[1:]
        if left.entries[left.parameters[name]["entry"]].distinct > 4
        and sum(other in [o for o, _ in each] for each in pairs.values()) == 1
        and other not in left.parameters[name]["also"]
    ]
    return Parameters(
        pairs,
        [n for n in left_alone if n not in covered],
        [n for n in right_alone if n not in covered],
        _turned(left, right, pairs),
        parts,
        twice,
        sums,
    )


def _equal(left: Trace, a: int, right: Trace, b: int) -> Layout | None:
    one, two = left.entries[a], right.entries[b]
    if one.size != two.size:
        return None
    slack = TOLERANCE * max(one.scale, two.scale)
    moments = zip(one.moments, two.moments, strict=True)
    if any(abs(x - y) > 2 * slack for x, y in moments):
        return None
    found = between(left.array(a), right.array(b), slack)
    return found if isinstance(found, Layout) else None


def _turned(left: Trace, right: Trace, pairs: dict[str, list[tuple[str, Layout]]]) -> list[str]:
    """Kernels in another layout than most of their rank, which only square ones can be in.

    An embedding, as most tables, stands alike on both sides.
    """
    orders: dict[int, dict[str, tuple[int, ...]]] = {}
    for name, found in pairs.items():
        a = left.entries[left.parameters[name]["entry"]].shape
        b = right.entries[right.parameters[found[0][0]]["entry"]].shape
        order = found[0][1].axes(a, b)
        if order is not None and len(a) > 1 and 1 not in a:
            orders.setdefault(len(a), {})[name] = order
    turned = []
    for kernels in orders.values():
        (usual, votes), *_ = Counter(kernels.values()).most_common(1)
        for name, order in kernels.items():
            a = left.entries[left.parameters[name]["entry"]].shape
            b = right.entries[right.parameters[pairs[name][0][0]]["entry"]].shape
            fits = tuple(a[axis] for axis in usual) == b
            if votes > 1 and order != usual and fits:
                turned.append(name)
    return turned


def _parts(whole: Trace, wholes: list[str], part: Trace, parts: list[str]) -> dict[str, list[str]]:
    """Parameters that are several of the other side, one behind the other: gates, or q, k and v."""
    found: dict[str, list[str]] = {}
    for name in wholes:
        array = whole.array(whole.parameters[name]["entry"])
        for count, axis in ((c, x) for x in range(min(array.ndim, 2)) for c in (2, 3, 4)):
            if array.shape[axis] % count:
                continue
            names = []
            for block in np.split(array, count, axis):
                slack = TOLERANCE * float(np.abs(flat(block)).max(initial=0.0))
                like = (
                    each
                    for each in parts
                    if (theirs := part.entries[part.parameters[each]["entry"]]).size == block.size
                    and abs(theirs.scale - np.abs(block).max(initial=0.0)) <= 2 * slack
                    and isinstance(
                        between(block, part.array(part.parameters[each]["entry"]), slack), Layout
                    )
                )
                names.append(next(like, None))
            if all(each is not None for each in names):
                found[name] = [each for each in names if each]
                break
    return found


def _merged(whole: Trace, wholes: list[str], part: Trace, parts: list[str]) -> dict[str, list[str]]:
    """Biases that are sums of the other side's, gate by gate: PyTorch's cells have two each."""
    vectors = [[(n, t.array(t.parameters[n]["entry"]).astype(np.float64)) for n in names
                if len(t.entries[t.parameters[n]["entry"]].shape) == 1]
               for t, names in ((whole, wholes), (part, parts))]  # fmt: skip
    found: dict[str, list[str]] = {}
    for name, bias in vectors[0]:
        for one, other in itertools.permutations(vectors[1], 2):
            if one[1].size != other[1].size or not bias.size:
                continue
            if (used := _gates(bias, one, other)) is not None:
                found[name] = used
                break
    return found


def _gates(
    bias: np.ndarray, one: tuple[str, np.ndarray], other: tuple[str, np.ndarray]
) -> list[str] | None:
    """The names that a bias is made of, where each of its gates is one, another, or their sum."""
    slack = 4 * TOLERANCE * max(np.abs(one[1]).max(), np.abs(other[1]).max())
    for count in (1, 2, 3, 4):
        if one[1].size % count:
            continue
        size = one[1].size // count
        blocks = (each[1].reshape(count, size) for each in (one, other))
        options = [(a, b, a + b) for a, b in zip(*blocks, strict=True)]
        if bias.size == one[1].size:
            gates = list(zip(bias.reshape(count, size), options, strict=True))
        elif bias.size == size:
            gates = [(bias, [x for each in options for x in each])]
        else:
            continue
        if all(any(close(gate, x, slack) for x in made) for gate, made in gates):
            return [one[0], other[0]]
    return None
