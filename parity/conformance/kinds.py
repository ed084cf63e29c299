"""What a function is compared with: squash, margin loss, or any routing.

Of dynamic routing many mistakes are known, and `mistakes.py` has its cases with them. The cases of
any other routing come from its dataclass: its default options, two and three iterations where it
has a number of them, and a random value in each argument; `activated.py` has mistakes of some.

Axes: I input capsules, J output capsules, K size of an input pose, D of an output pose.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from parity import reference
from parity.conformance import activated, grids
from parity.conformance.mistakes import (
    CASES,
    MISTAKES,
    OUTPUTS,
    SHORT,
    VOTES,
    ZERO,
    Array,
    Case,
    Settings,
    normal,
    zeroed,
)
from parity.spec import Routing, TwincapsError

# The routing that is meant where none is named, and whose mistakes `mistakes.py` knows.
USUAL = Routing().name
# Of a routing over a grid: one more axis, of places, and fewer children.
OF_PLACES = normal(2, 2, 2, 3, 3, 7)
SIZES = {**dict(zip("bijd", VOTES.shape, strict=True)), "k": 4}
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}
EXPECTED = {
    "squash": "f(x) with x [B, N, D], poses along the last axis, returning the same shape",
    "margin_loss": "f(lengths, targets) with lengths [B, J] or poses [B, J, D] and targets as "
    "labels [B] or one-hot [B, J], in either order, returning the mean of the losses or these [B]",
}
INPUTS = {
    "squash": {"x": "poses [B, N, D], float32"},
    "margin_loss": {
        "lengths": "lengths [B, J], float32",
        "poses": "poses [B, J, D] of these lengths, float32",
        "labels": "labels [B], integers",
        "one_hot": "the same as 0 and 1 [B, J], float32",
        "classes": "J, an integer",
    },
}
NEEDS = {"squash": [("x",)], "margin_loss": [("lengths", "poses"), ("labels", "one_hot")]}


class ConformanceError(TwincapsError):
    """A function that cannot be loaded, or of which it is not clear how it is called."""


@dataclass(frozen=True, eq=False)
class Routed(Case):
    """Votes for a routing with these options; its other arguments by name."""

    routing: Routing = field(default_factory=Routing)
    arguments: Mapping[str, Array] = field(default_factory=dict)

    def answer(self, x: Array, **settings: Any) -> tuple[Array, ...]:
        """What the oracle's routing gives for votes `x`, or with settings a wrong variant."""
        name = self.routing.name
        wrong = grids if self.routing.places else activated
        function = getattr(wrong if settings else reference.routing, name)
        return function(x, **self.arguments, **self.routing.options, **settings)


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind of function.

    Attributes:
        name: squash, routing or margin_loss.
        cases: What it is asked, by name; `outputs` names what it returns.
        mistakes: Those that are known, none of a routing but the usual one.
        expected: How it is called and what it returns, in words.
        routing: Which routing, with its default options; None of the other kinds.
    """

    name: str
    cases: Mapping[str, Case]
    outputs: tuple[str, ...]
    mistakes: Mapping[str, Settings]
    expected: str
    routing: Routing | None = None

    @property
    def title(self) -> str:
        """Its name, with the routing's own where that is not the usual one."""
        other = self.routing is not None and self.routing.name != USUAL
        return f"{self.name} {self.routing.name}" if other else self.name  # pyright: ignore

    @property
    def count(self) -> str | None:
        """The option of a routing that is its number of iterations, r of an expression."""
        return None if self.routing is None else iterations(self.routing)

    @property
    def inputs(self) -> dict[str, str]:
        """The names that may stand in an expression, and what each is."""
        if self.routing is None:
            return INPUTS[self.name]
        names = {"votes": f"votes [{_axes(self.routing)}], float32"}
        if self.count is not None:
            names["r"] = "the number of iterations"
        for name, owned in {**self.routing.takes, **self.routing.owns}.items():
            names[owned.argument(name)] = f"{name} [{', '.join(owned.axes.upper().split())}]"
        return names | {
            option: f"{option} of the routing"
            for option in self.routing.options
            if option != self.count
        }

    @property
    def needs(self) -> list[tuple[str, ...]]:
        """Groups of inputs, of each of which one must stand in an expression."""
        if self.routing is None:
            return NEEDS[self.name]
        arguments = self.routing.arguments.items()
        return [("votes",), *((own.argument(name),) for name, own in arguments)]

    def asked(self, inputs: Collection[str]) -> dict[str, Case]:
        """The cases for a call with these inputs: without r, those of the usual number."""
        if self.routing is None or self.count is None or "r" in inputs:
            return dict(self.cases)
        usual = self.routing.options[self.count]
        return {name: case for name, case in self.cases.items() if case.more[0] == usual}


def kind_of(name: str, routing: str | None = None, inputs: Collection[str] = ()) -> Kind:
    """The kind of this name; raises ConformanceError or SpecError if unknown.

    A routing has a parameter that it may go without where that is among the `inputs`.
    """
    if name not in CASES:
        raise ConformanceError(f"kind {name!r} is unknown; expected one of {', '.join(CASES)}")
    if name != "routing":
        if routing is not None:
            raise ConformanceError(f"routing is {routing!r}, of a {name}; expected kind routing")
        return Kind(name, CASES[name], OUTPUTS[name], MISTAKES[name], EXPECTED[name])
    usual = Routing.kind(routing or USUAL)()
    switches = {
        name: True
        for name, owned in usual.owns.items()
        if owned.argument(name) in inputs and name not in usual.owned
    }
    usual = replace(usual, **switches)
    known = usual == Routing()
    if known:
        return Kind(name, CASES[name], OUTPUTS[name], MISTAKES[name], _expected(usual), usual)
    active = "activations" in usual.takes
    outputs = activated.OUTPUTS if active else OUTPUTS[name]
    outputs = activated.LOGITS if usual.logits else outputs
    mistakes = (activated.MISTAKES | grids.MISTAKES).get(usual.name, {})
    return Kind(name, _cases(usual), outputs, mistakes, _expected(usual), usual)


def iterations(routing: Routing) -> str | None:
    """The option that is a number of routing iterations, None where there is none."""
    return next((name for name in routing.options if "iter" in name), None)


def value(case: Case, name: str) -> Any:
    """What an input other than x, votes, lengths and poses is in a case."""
    if name in ("r", "labels"):
        return case.more[0]
    if name == "classes":
        return case.x.shape[1]
    if name == "one_hot":
        return reference.one_hot(case.more[0], case.x.shape[1]).astype(np.float32)
    if isinstance(case, Routed):
        return {**case.arguments, **case.routing.options}[name]
    return Routing().options[name]


def directions(case: Case) -> Array:
    """Unit vectors [B, J, D], which make poses of a case's lengths [B, J]."""
    vectors = normal(5, *case.x.shape, 11)
    return vectors / np.sqrt((vectors * vectors).sum(-1, keepdims=True))


def _cases(routing: Routing) -> dict[str, Case]:
    arguments = {
        own.argument(name): normal(10 + n, *own.shape(SIZES)) * np.float32(0.3)
        for n, (name, own) in enumerate(routing.arguments.items())
    }
    for name in arguments.keys() & {"activations_BI"}:
        arguments[name] = reference.sigmoid(3 * arguments[name]).astype(np.float32)
    count, votes = iterations(routing), OF_PLACES if routing.places else VOTES

    def case(x: Array, **options: int) -> Case:
        asked = replace(routing, **options)
        more = () if count is None else (asked.options[count],)
        return Routed("routing", x, more, asked, arguments)

    cases = {"default options": case(votes)}
    for n in (3, 2) if count else ():
        cases[f"{NUMBERS[n]} iterations"] = case(votes, **{str(count): n})
    cases[SHORT] = case(votes * np.float32(1e-8))
    cases[ZERO] = case(zeroed(votes, 0, (1, ..., 1, slice(None))))
    if "logits_BIJ" in arguments:
        far = arguments["logits_BIJ"] - np.float32(200) * (np.arange(SIZES["j"]) == 1)
        unchosen = replace(case(votes), arguments={**arguments, "logits_BIJ": far})
        cases[activated.UNCHOSEN] = unchosen
    return cases


def _expected(routing: Routing) -> str:
    """How a function for this routing is called, and what it returns."""
    arguments = routing.arguments.items()
    axes = {name: ", ".join(own.axes.upper().split()) for name, own in arguments}
    given = {own.argument(name): axes[name] for name, own in arguments}
    alone = f"f({', '.join(['votes', *given])})"
    count, called = iterations(routing), alone
    if count is not None:
        number = routing.options[count]
        called = (
            f"{alone[:-1]}, {count}) or {alone}, which is held to {NUMBERS.get(number, number)} "
            f"iteration{'s' * (number != 1)},"
        )
    shapes = "".join(f", {name} [{shape}]" for name, shape in given.items())
    kind = "logits" if routing.logits else "activations"
    more = f", {kind} [B, J]" if "activations" in routing.takes else ""
    votes = _axes(routing)
    return (
        f"{called} with votes [{votes}]{shapes}, returning poses [{votes.replace('I, ', '')}] or "
        f"(poses{more}, couplings [{votes.removesuffix(', D')}])"
    )


def _axes(routing: Routing) -> str:
    """Those of its votes, with the places of a grid where it routes over them."""
    return "B, P, I, J, D" if routing.places else "B, I, J, D"
