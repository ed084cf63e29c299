"""The first difference of two traces: the last tensor that agrees and the first that does not.

Final outputs decide whether there is a difference at all. A tensor without a partner is one only if
nothing that is computed from it agrees again: a relu that is a module on one side alone, or a
normalisation folded into a convolution, is *not recorded on the other side*.
"""

from dataclasses import dataclass, field

from parity.diff.align import Alignment, weak
from parity.diff.counterpart import Counterparts, alike
from parity.diff.layouts import SAME, Layout, close, flat, of_axes
from parity.diff.parameters import Parameters
from parity.diff.tape import Entry
from parity.diff.trace import Trace


@dataclass(frozen=True)
class Pair:
    """A left and a right node, and the layout in which they agree, or would."""

    left: int
    right: int
    layout: Layout | None


@dataclass
class Found:
    """What the search found.

    Attributes:
        pairs: Nodes that agree, in the order of the left.
        first: The first that do not, None where all final outputs agree.
        last: The last pair before it that agrees.
        finals: Of each pair of final outputs, whether it agrees.
        declared: Rank -> permutation of axes that the inputs have, left to right.
        alone: Labels that have no partner, left and right.
    """

    pairs: list[Pair]
    first: Pair | None = None
    last: Pair | None = None
    finals: list[tuple[Pair, bool]] = field(default_factory=list)
    declared: dict[int, tuple[int, ...]] = field(default_factory=dict)
    alone: tuple[list[str], list[str]] = ((), ())  # pyright: ignore[reportAssignmentType]


class Search:
    """The search for the first difference; `run` returns what it found."""

    def __init__(self, alignment: Alignment, parameters: Parameters) -> None:
        self.alignment = alignment
        self.left, self.right = alignment.left, alignment.right
        self.right_nodes: dict[int, list[int]] = {}
        for number, node in enumerate(self.right.nodes):
            self.right_nodes.setdefault(node.entry, []).append(number)
        # Right entry -> the left nodes that made what it agrees with.
        self.taken: dict[int, list[int]] = {}
        for entry, found in alignment.matches.items():
            for match in found:
                if match.layout is not None:
                    self.taken.setdefault(match.right, []).append(self.left.makers[entry])
        self.counterparts = Counterparts(alignment, parameters, self.taken)
        self.calls = self.counterparts.calls

    def run(self) -> Found:
        """Final outputs first; where they disagree, the first node that causes it."""
        # An array is one row of the report, however many modules it passes: where it was made.
        numbers = self._unique(self.left)
        pairs = [p for n in numbers if (p := self.partner(n)) is not None]
        found = Found(pairs, declared=self._declared())
        found.finals = self._finals(found.declared)
        agreed = {p.left for p in pairs}
        others = {p.right for p in pairs}
        found.alone = (
            [self.left.labels[n] for n in self._unique(self.left) if n not in agreed],
            [
                self.right.labels[n]
                for n in self._unique(self.right)
                if n not in others and self.right.nodes[n].entry not in self.taken
            ],
        )
        wrong = [pair for pair, good in found.finals if not good]
        if wrong:
            found.first = self._first(wrong[0])
            found.last = self._last(found.first, pairs)
        return found

    def partner(self, number: int) -> Pair | None:
        """The right node that a left one agrees with, the likeliest of several."""
        node = self.left.nodes[number]
        matches = [m for m in self.alignment.matches.get(node.entry, []) if m.layout is not None]
        options = [
            (self._likeness(number, n), -n, m)
            for m in matches
            for n in self.right_nodes.get(m.right, [])
        ]
        if not options:
            return None
        _, other, match = max(options, key=lambda each: each[:2])
        return Pair(number, -other, match.layout)

    def _unique(self, trace: Trace) -> list[int]:
        return [n for n in trace.makers.values() if trace.nodes[n].entry >= 0]

    def _likeness(self, left: int, right: int) -> float:
        a, b = self.left.nodes[left], self.right.nodes[right]
        leaf = self.counterparts.leaf
        leaves = a.call >= 0 and b.call >= 0 and leaf(0, a.call) == leaf(1, b.call)
        same = (a.role == b.role) + leaves / 2 + (a.part == b.part) / 4
        return same + alike(a.name, b.name)

    def _declared(self) -> dict[int, tuple[int, ...]]:
        """The permutation of axes between the inputs of each rank, where they have one."""
        declared = {}
        for number, node in enumerate(self.left.nodes):
            if node.role == "given" and (pair := self.partner(number)) is not None and pair.layout:
                a, b = (self.left.entries[node.entry].shape,
                        self.right.entries[self.right.nodes[pair.right].entry].shape)  # fmt: skip
                order = pair.layout.axes(a, b)
                if order is not None and a:
                    declared.setdefault(len(a), order)
        return declared

    def _finals(self, declared: dict[int, tuple[int, ...]]) -> list[tuple[Pair, bool]]:
        """Pairs of final outputs, and whether each agrees in the declared layout."""
        lefts, rights = (
            [n for n, each in enumerate(t.nodes) if each.role == "final" and each.entry >= 0]
            for t in (self.left, self.right)
        )
        pairs: list[tuple[Pair, bool]] = []
        free = list(rights)
        rest = []
        for one in lefts:
            agrees = next((r for r in free if self._agree(one, r, declared)), None)
            if agrees is None:
                rest.append(one)
            else:
                free.remove(agrees)
                layout = self._final_layout(one, agrees, declared)
                pairs.append((Pair(one, agrees, layout), True))
        # What one side alone returns, hidden states say, is no difference.
        for one, other in zip(rest, free, strict=False):
            pairs.append((Pair(one, other, None), False))
        return pairs

    def _final_layout(
        self, left: int, right: int, declared: dict[int, tuple[int, ...]]
    ) -> Layout | None:
        a, b = self.left.nodes[left].entry, self.right.nodes[right].entry
        shapes = self.left.entries[a].shape, self.right.entries[b].shape
        order = declared.get(len(shapes[0]))
        wanted = {SAME} if shapes[0] == shapes[1] else set()
        if order is not None and tuple(shapes[0][n] for n in order) == shapes[1]:
            wanted.add(of_axes(shapes[0], order))
        matches = [m for m in self.alignment.matches[a] if m.right == b]
        if matches and matches[0].layout in wanted:
            return matches[0].layout
        slack = self.alignment.tolerance(a, b) * self.left.entries[a].scale
        one, other = self.left.array(a), self.right.array(b)
        for layout in wanted if self.left.entries[a].size == self.right.entries[b].size else ():
            if close(flat(layout.arrange(one, other.shape)), flat(other), slack):
                return layout
        return None

    def _agree(self, left: int, right: int, declared: dict[int, tuple[int, ...]]) -> bool:
        return self._final_layout(left, right, declared) is not None

    def _first(self, wrong: Pair) -> Pair:
        """The first left node that differs and matters, with its counterpart."""
        if (inputs := self._inputs()) is not None:
            return inputs
        numbers = [n for n in self._unique(self.left) if self.partner(n) is None]
        # Zeros that one side has once and the other for each image are no difference yet.
        for number in sorted(numbers, key=lambda n: self._entry(n).scale == 0):
            if self._excused(number) or self._beside(number):
                continue
            if (other := self.counterparts.find(number)) is not None:
                return self._wired(Pair(number, other, None))
        maker = self.left.makers[self.left.nodes[wrong.left].entry]
        return wrong if self.partner(maker) else Pair(maker, wrong.right, None)

    def _inputs(self) -> Pair | None:
        """The inputs, where they differ and nothing after them agrees either."""
        agree = [n for n in self._unique(self.left) if self._agrees(n)]
        givens = [[n for n, each in enumerate(t.nodes) if each.role == "given"]
                  for t in (self.left, self.right)]  # fmt: skip
        for one, other in zip(*givens, strict=False):
            if not agree and self.partner(one) is None:
                return Pair(one, other, None)
        return None

    def _wired(self, pair: Pair) -> Pair:
        """The inputs of two calls instead of their outputs, where they are given other things."""
        one, other = self.left.nodes[pair.left], self.right.nodes[pair.right]
        if one.role != "output" or other.role != "output":
            return pair
        mine, theirs = self.calls[0][one.call][0], self.calls[1][other.call][0]
        if not mine or not theirs or not self._agrees(mine[0]):
            return pair
        matches = self.alignment.matches[self.left.nodes[mine[0]].entry]
        if any(m.right == self.right.nodes[theirs[0]].entry for m in matches):
            return pair
        return Pair(mine[0], theirs[0], None)

    def _excused(self, number: int) -> bool:
        """Whether something that is computed from a node, or around it, agrees again."""
        calls = self.left.calls
        around = self.left.nodes[number].call
        if self.left.nodes[number].role == "output":
            around = calls[around].parent
        while around >= 0:
            outputs = self.calls[0].get(around, ([], []))[1]
            if outputs and all(self._agrees(n) for n in outputs[:1]):
                return True
            around = calls[around].parent
        seen, todo = set(), [self.left.nodes[number].entry]
        while todo:
            entry = todo.pop()
            seen.add(entry)
            for given, outputs in self.calls[0].values():
                if all(self.left.nodes[n].entry != entry for n in given):
                    continue
                for n in outputs:
                    if self._agrees(n):
                        return True
                    if self.left.nodes[n].entry not in seen:
                        todo.append(self.left.nodes[n].entry)
        mine = self.counterparts.call(number)
        if mine is not None and self.left.nodes[number].role == "output":
            # The other side's module with the same parameters agrees with a later one of ours.
            theirs = self.calls[1].get(mine, ([], []))[1]
            return bool(theirs) and self._later(self.right.nodes[theirs[0]].entry, number)
        return False

    def _later(self, entry: int, number: int) -> bool:
        """Whether a right array agrees with one that the left makes after a node."""
        return any(made > number for made in self.taken.get(entry, ()))

    def _agrees(self, number: int) -> bool:
        return self.partner(number) is not None and not weak(
            self.left.entries[self.left.nodes[number].entry]
        )

    def _beside(self, number: int) -> bool:
        """Whether a node is a further output that nothing uses: attention's weights, say."""
        node = self.left.nodes[number]
        if node.role != "output" or node.part in ("", "[0]"):
            return False
        return not any(
            each.entry == node.entry and each.role in ("input", "final")
            for each in self.left.nodes[number + 1 :]
        )

    def _last(self, first: Pair, pairs: list[Pair]) -> Pair | None:
        """What the first difference was computed from: its call's input, or what came before."""
        node = self.left.nodes[first.left]
        given = self.calls[0].get(node.call, ([], []))[0] if node.role == "output" else []
        makers = {self.left.makers[self.left.nodes[n].entry] for n in given}
        own = [pair for pair in pairs if pair.left in makers]
        before = [p for p in pairs if p.left < first.left and not self._is_weak(p)]
        return (own or before or [p for p in pairs if p.left < first.left] or [None])[-1]

    def _is_weak(self, pair: Pair) -> bool:
        return weak(self._entry(pair.left))

    def _entry(self, number: int) -> Entry:
        return self.left.entries[self.left.nodes[number].entry]
