"""What a function is held to: squash, margin loss, or a routing of `parity.spec.ROUTINGS`.

Of dynamic routing many mistakes are known, and `mistakes.py` has its cases with them. The cases of
any other routing come from its dataclass: its default options, two and three iterations where it
has a number of them, and a random value in each parameter that it owns.

Axes: I input capsules, J output capsules, K size of an input pose, D of an output pose.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from parity import reference
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
SIZES = {**dict(zip("ijd", VOTES.shape[1:], strict=True)), "k": 4}
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}
EXPECTED = {
    "squash": "f(x) with x [B, N, D], poses along the last axis, returning the same shape",
    "margin_loss": "f(lengths, targets) with lengths [B, J], or poses [B, J, D], and targets as "
    "labels [B] or one-hot [B, J], in either order, returning a scalar or one an image [B]",
}


POSES = "poses"  # what a margin loss that takes whole poses is asked about


class ConformanceError(TwincapsError):
    """A function that cannot be loaded, or cannot be called as its kind is."""


@dataclass(frozen=True, eq=False)
class Routed(Case):
    """Votes for a routing with these options; `owned` by the arguments' names."""

    routing: Routing = field(default_factory=Routing)
    owned: Mapping[str, Array] = field(default_factory=dict)

    def answer(self, x: Array, **settings: Any) -> tuple[Array, ...]:
        assert not settings, f"no mistakes of {self.routing.name} are known"
        function = getattr(reference.routing, self.routing.name)
        return function(x, **self.owned, **self.routing.options)


@dataclass(frozen=True, eq=False)
class Posed(Case):
    """Poses [B, J, D] for a margin loss that takes their lengths itself."""

    def answer(self, x: Array, **settings: Any) -> tuple[Array, ...]:
        return super().answer(reference.lengths(x), **settings)


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind of function.

    name      squash, routing or margin_loss
    cases     what it is asked, by name; `outputs` names what it returns
    posed     the same of whole poses, of a margin loss
    mistakes  those that are known, none of a routing but the usual one
    expected  how it is called and what it returns, in words
    routing   which routing, with its default options; None of the other kinds
    """

    name: str
    cases: Mapping[str, Case]
    outputs: tuple[str, ...]
    mistakes: Mapping[str, Settings]
    expected: str
    routing: Routing | None = None
    posed: Mapping[str, Case] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Its name, with the routing's own where that is not the usual one."""
        other = self.routing is not None and self.routing.name != USUAL
        return f"{self.name} {self.routing.name}" if other else self.name  # pyright: ignore


def kind_of(name: str, routing: str | None = None) -> Kind:
    """The kind of this name; raises ConformanceError, or SpecError for an unknown routing."""
    if name not in CASES:
        raise ConformanceError(f"kind {name!r} is unknown; expected one of {', '.join(CASES)}")
    if name != "routing":
        if routing is not None:
            raise ConformanceError(f"routing is {routing!r}, of a {name}; expected kind routing")
        whole = {} if name == "squash" else {n: _posed(case) for n, case in CASES[name].items()}
        row = CASES[name], OUTPUTS[name], MISTAKES[name], EXPECTED[name]
        return Kind(name, *row, posed=whole)
    usual = Routing(routing or USUAL)
    known = usual.name == USUAL
    cases, mistakes = (CASES[name], MISTAKES[name]) if known else (_cases(usual), {})
    return Kind(name, cases, OUTPUTS[name], mistakes, _expected(usual), usual)


def iterations(routing: Routing) -> str | None:
    """The option that is a number of routing iterations, None where there is none."""
    return next((name for name in routing.options if "iter" in name), None)


def _posed(case: Case) -> Case:
    """Poses of the lengths of a case, in directions of their own."""
    directions = normal(20, *case.x.shape, 4)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    return Posed(case.kind, case.x[..., None] * directions, case.more)


def _cases(routing: Routing) -> dict[str, Case]:
    owned = {
        each.argument(name): normal(10 + n, *each.shape(SIZES)) * np.float32(0.3)
        for n, (name, each) in enumerate(routing.owned.items())
    }
    count = iterations(routing)

    def case(x: Array, **options: int) -> Case:
        asked = replace(routing, **options)
        more = () if count is None else (asked.options[count],)
        return Routed("routing", x, more, asked, owned)

    cases = {"default options": case(VOTES)}
    for n in (3, 2) if count else ():
        cases[f"{NUMBERS[n]} iterations"] = case(VOTES, **{str(count): n})
    cases[SHORT] = case(VOTES * np.float32(1e-8))
    return {**cases, ZERO: case(zeroed(VOTES, 0, (1, slice(None), 1)))}


def _expected(routing: Routing) -> str:
    """How a function for this routing is called, and what it returns."""
    axes = {name: ", ".join(each.axes.upper().split()) for name, each in routing.owned.items()}
    owned = {each.argument(name): axes[name] for name, each in routing.owned.items()}
    alone = f"f({', '.join(['votes', *owned])})"
    count, called = iterations(routing), alone
    if count is not None:
        number = routing.options[count]
        called = (
            f"{alone[:-1]}, {count}) or {alone}, which is held to {NUMBERS.get(number, number)} "
            f"iteration{'s' * (number != 1)},"
        )
    shapes = "".join(f", {name} [{each}]" for name, each in owned.items())
    return (
        f"{called} with votes [B, I, J, D]{shapes}, returning poses [B, J, D] or "
        "(poses, couplings [B, I, J])"
    )
