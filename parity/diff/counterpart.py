"""The tensor of the right that should have agreed with one of the left, by what is around both."""

import difflib
import re

import numpy as np

from parity.diff.align import Alignment, weak
from parity.diff.layouts import SAME, flat
from parity.diff.parameters import Parameters
from parity.diff.trace import Trace

# How alike names must be, or how near values, to be one's counterpart.
NAMED, NEAR = 0.6, 0.5


class Counterparts:
    """Who stands where on the right what stands there on the left.

    Args:
        alignment: Which arrays agree.
        parameters: Which parameters do, and so which modules are each other's.
        taken: Right entry -> the left nodes that made what it agrees with.
    """

    def __init__(
        self, alignment: Alignment, parameters: Parameters, taken: dict[int, list[int]]
    ) -> None:
        self.alignment, self.parameters, self.taken = alignment, parameters, taken
        self.left, self.right = alignment.left, alignment.right
        self.calls = [nodes_of_calls(self.left), nodes_of_calls(self.right)]
        self._parents = [{each.parent for each in t.calls} for t in (self.left, self.right)]
        self.modules = self._modules()

    def find(self, number: int) -> int | None:
        """The right node that should have agreed, None where there is none."""
        node = self.left.nodes[number]
        entry = self.left.entries[node.entry]
        mine = self.call(number)
        fed, used = self._feeding(number), self._using(number)
        if mine is not None:
            # An operation that the right leaves out: what is there is one that agreed before.
            for n in self.calls[1].get(mine, ([], []))[node.role == "output"]:
                made = self.taken.get(self.right.nodes[n].entry, ())
                if self.right.nodes[n].part == node.part and made and max(made) < number:
                    return n
        best: tuple[float, int] | None = None
        for other in self.right.makers.values():
            theirs = self.right.nodes[other]
            if theirs.entry < 0 or theirs.role == "given" or theirs.entry in self.taken:
                continue
            if (theirs.role == "final") != (node.role == "final") and entry.size != (
                self.right.entries[theirs.entry].size
            ):
                continue
            same_role = theirs.role == node.role
            paired = same_role and mine is not None and theirs.call == mine
            eats = same_role and node.role == "output" and theirs.call in fed
            names = alike(node.name, theirs.name) if same_role else 0.0
            same_size = self.right.entries[theirs.entry].size == entry.size
            nearness = 1 - self.nearness(node.entry, theirs.entry) if same_size else 0.0
            ends = (each.rpartition(".")[2] for each in (node.name, theirs.name))
            told = node.role == theirs.role == "record" and same_size and alike(*ends) > NAMED
            feeds = same_size and theirs.entry in used
            alone = paired or eats or feeds or told
            if not (alone or (names > NAMED and same_size) or nearness > NEAR):
                continue
            score = 4 * paired + 3 * (eats or feeds) + 2 * names + same_role + same_size + nearness
            score += (node.part == theirs.part) / 2
            if best is None or score > best[0]:
                best = score, other
        if best is not None:
            return best[1]
        return next((n for call in fed for n in self.calls[1].get(call, ([], []))[1]), None)

    def nearness(self, left: int, right: int) -> float:
        """How far two arrays of one size are apart at least; 1 is far.

        In any order, where their shapes have the same axes; else in the layouts that a flattening
        has, as sorted numbers of unlike tensors are near by accident.
        """
        one, other = self.left.entries[left], self.right.entries[right]
        a, b = flat(self.left.array(left)), flat(self.right.array(right))
        size = max(np.abs(a).mean(), np.abs(b).mean()) if a.size else 0.0
        if size == 0:
            return 0.0
        if sorted(one.shape) == sorted(other.shape):
            pairs = [(np.sort(a), np.sort(b))]
        else:
            layouts = (SAME, *self.alignment.guesses(one), *self.alignment.flattened(one))
            pairs = [(layout.arrange(a, (a.size,)), b) for layout in layouts]
        return min(1.0, *(float(np.abs(x - y).mean() / size) for x, y in pairs))

    def _modules(self) -> dict[str, str]:
        """Left module -> right module that owns the same parameters."""
        votes: dict[str, dict[str, int]] = {}
        for name, found in self.parameters.pairs.items():
            entry = self.left.entries[self.left.parameters[name]["entry"]]
            if weak(entry):
                continue
            for other, _ in found:
                owner, theirs = name.rpartition(".")[0], other.rpartition(".")[0]
                while True:  # and the modules around both
                    votes.setdefault(owner, {}).setdefault(theirs, 0)
                    votes[owner][theirs] += 1
                    if not owner or not theirs:
                        break
                    owner, theirs = owner.rpartition(".")[0], theirs.rpartition(".")[0]
        return {
            owner: max(found, key=lambda n: (found[n], alike(owner, n)))
            for owner, found in votes.items()
        }

    def call(self, number: int) -> int | None:
        """The right call of the module with the same parameters, as often called before."""
        node = self.left.nodes[number]
        if node.call < 0 or node.role not in ("input", "output"):
            return None
        call = self.left.calls[node.call]
        name = self.modules.get("" if call.name == "model" else call.name)
        for other, theirs in enumerate(self.right.calls):
            named = "" if theirs.name == "model" else theirs.name
            if name is not None and named == name and theirs.number == call.number:
                return other
        return None

    def _feeding(self, number: int) -> set[int]:
        """The right calls that are given what the node's own call is given."""
        node = self.left.nodes[number]
        given = self.calls[0].get(node.call, ([], []))[0] if node.role == "output" else []
        entries = {
            m.right
            for n in given[:1]
            for m in self.alignment.matches.get(self.left.nodes[n].entry, [])
            if m.layout is not None
        }
        return {
            call
            for call, (theirs, _) in self.calls[1].items()
            if any(self.right.nodes[n].entry in entries for n in theirs[:1])
            and self.leaf(1, call) == self.leaf(0, node.call)
        }

    def _using(self, number: int) -> set[int]:
        """The right arrays that are given to the partners of the calls that a node is given to."""
        entry = self.left.nodes[number].entry
        used = set()
        for given, _ in self.calls[0].values():
            for n in given[:1]:
                if self.left.nodes[n].entry == entry:
                    call = self.call(n)
                    theirs = [] if call is None else self.calls[1].get(call, ([], []))[0]
                    used |= {self.right.nodes[m].entry for m in theirs[:1]}
        return used

    def leaf(self, side: int, call: int) -> bool:
        """Whether a call made no other; `side` is 0 for the left."""
        return call not in self._parents[side]


def alike(a: str, b: str) -> float:
    """How alike two names are, 0 to 1; 0 where the numbers in them are others."""
    words = [re.findall(r"[a-z]+|\d+", each.lower()) for each in (a, b)]
    digits = [[w for w in each if w.isdigit()] for each in words]
    share = difflib.SequenceMatcher(None, "".join(words[0]), "".join(words[1])).ratio()
    if digits[0] != digits[1]:
        share *= 0.5
    return share


def nodes_of_calls(trace: Trace) -> dict[int, tuple[list[int], list[int]]]:
    """Call -> the nodes that went in and those that came out."""
    found: dict[int, tuple[list[int], list[int]]] = {}
    for number, node in enumerate(trace.nodes):
        if node.role in ("input", "output") and node.entry >= 0:
            found.setdefault(node.call, ([], []))[node.role == "output"].append(number)
    return found
