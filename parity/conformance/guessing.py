"""How a function may want to be called, read from its parameters' names.

Each guess is an expression of `expressions.py`, with a rank: 0 where the names say it, more where
they say less. `judging.py` decides which guess is believed.
"""

import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from parity.conformance.kinds import ConformanceError, Kind, iterations
from parity.spec import Routing

Parameters = Mapping[str, inspect.Parameter]

# Ranks: a name that says what it is, one that may be meant, none, a call that passes nothing, and
# one that leaves the function at another number of iterations than the usual.
NAMED, LIKELY, UNNAMED, BARE, OTHER = range(5)

# num_routing and routing_rounds are a number of iterations; num_routes and routing_bias are none.
FILLERS = {"num", "n", "nb", "no", "number", "of", "max", "count", "routing"}
COUNTS = {"r", "t", "routings", "round", "rounds", "step", "steps", "loops", "passes", "times"}
TARGETS = {"y", "t", "true", "target", "targets", "label", "labels", "onehot", "hot", "truth", "gt"}
TARGET, PREDICTION = "target", "prediction"
PREDICTIONS = {
    "pred",
    "preds",
    "predicted",
    "predictions",
    "prediction",
    "output",
    "outputs",
    "out",
}
PREDICTIONS |= {"length", "lengths", "norm", "norms", "v", "x", "input", "inputs", "poses", "pose"}
PREDICTIONS |= {"caps", "capsule", "capsules", "logits", "scores", "probs", "activations", "hat"}


@dataclass(frozen=True)
class Guess:
    """An expression, and how far the function's own names say it."""

    text: str
    rank: int = NAMED


def guesses(kind: Kind, function: Callable[..., Any]) -> list[Guess]:
    """The ways to call a function of a kind, likeliest first.

    Raises ConformanceError for a routing that does not take what the kind's owns.
    """
    theirs = parameters(function)
    if kind.name == "squash":
        return list(_squash(theirs))
    if kind.name == "margin_loss":
        return list(_margin_loss(theirs))
    return list(_routing(kind, function, theirs))


def parameters(function: Callable[..., Any]) -> Parameters:
    """Its parameters by name, without *args and **kwargs; empty where unknown."""
    signature = _signature(function) or {}
    many = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: parameter for name, parameter in signature.items() if parameter.kind not in many}


def _words(name: str) -> set[str]:
    """The lower-case words of a name in snake or camel case."""
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_")) - {""}


def _first(theirs: Parameters, name: str | None, text: str) -> str:
    """The function's main input, by its place where it is the first and has one."""
    if name is None or (name == next(iter(theirs)) and _has_place(theirs[name])):
        return text
    return f"{name}={text}"


def _squash(theirs: Parameters) -> Iterator[Guess]:
    axes = [n for n in theirs if _words(n) & {"axis", "axes", "dim", "dims"}]
    name = next((n for n in theirs if n not in axes), None)
    x = _first(theirs, name, "x")
    for axis in axes:
        by_place = theirs[axis].kind is inspect.Parameter.POSITIONAL_ONLY
        yield Guess(f"f({x}, {'' if by_place else f'{axis}='}-1)")
    yield Guess(f"f({x})", LIKELY)
    if not axes and (not theirs or _required(theirs, name)):
        yield Guess(f"f({x}, -1)", UNNAMED)


def _required(theirs: Parameters, but: str | None) -> list[str]:
    return [
        n for n, parameter in theirs.items() if parameter.default is parameter.empty and n != but
    ]


def _margin_loss(theirs: Parameters) -> Iterator[Guess]:
    """Lengths or poses and labels or one-hot, in the order that the names tell."""
    asked = [n for n, parameter in theirs.items() if parameter.default is parameter.empty][:2]
    asked = asked if len(asked) == 2 else list(theirs)[:2]
    roles = [_role(name) for name in asked]
    if len(set(roles)) == 2:
        orders, rank = [roles[0] == TARGET or roles[1] == PREDICTION], NAMED
    else:
        orders, rank = [False, True], LIKELY
    forms = ["one_hot"] if any("hot" in name.lower() for name in asked) else ["labels", "one_hot"]
    by_place = list(theirs)[:2] == asked and all(_has_place(theirs[name]) for name in asked)
    for targets_first in orders:
        for pair in itertools.product(("lengths", "poses"), forms):
            given = reversed(pair) if targets_first else pair
            named = given if by_place or len(asked) < 2 else map("{}={}".format, asked, given)
            yield Guess(f"f({', '.join(named)})", rank)


def _has_place(parameter: inspect.Parameter) -> bool:
    return parameter.kind is not parameter.KEYWORD_ONLY


def _role(name: str) -> str | None:
    """Whether a parameter's name means targets, predictions (y_pred), or neither."""
    words = _words(name)
    if words & PREDICTIONS and not words & {"true", "target", "targets", "label", "labels"}:
        return PREDICTION
    return TARGET if words & TARGETS else None


def _routing(kind: Kind, function: Callable[..., Any], theirs: Parameters) -> Iterator[Guess]:
    names = _names(kind, function, theirs)
    beside = "".join(f", {name}={ours}" for name, ours in names.items())
    counts = {} if kind.count is None else _counts(theirs, names)
    main = next((n for n in theirs if n not in names and counts.get(n, BARE) > LIKELY), None)
    votes = _first(theirs, main, "votes")
    counts.pop(str(main), None)
    for name, rank in sorted(counts.items(), key=lambda pair: pair[1]):
        second = rank == UNNAMED and name == [*theirs][1] and _has_place(theirs[name])
        by_place = theirs[name].kind is inspect.Parameter.POSITIONAL_ONLY or second
        yield Guess(f"f({votes}, {'' if by_place else f'{name}='}r{beside})", rank)
    if not theirs and kind.count is not None:
        yield Guess(f"f({votes}, r{beside})", UNNAMED)
    usual = kind.routing and kind.count and kind.routing.options[kind.count]
    defaults = [theirs[name].default for name, rank in counts.items() if rank == NAMED]
    same = all(default == usual for default in defaults)
    yield Guess(f"f({votes}{beside})", BARE if same else OTHER)


def _counts(theirs: Parameters, but: Mapping[str, str]) -> dict[str, int]:
    """The parameters that may be the number of iterations, with their ranks."""
    ranks = {}
    for place, (name, parameter) in enumerate(theirs.items()):
        iters = re.search("(?<!cr)iter", name.lower())  # a criterion is no iteration
        if name in but or not (_takes_number(parameter) or (iters and parameter.default is None)):
            continue
        if iters or (_words(name) and _words(name) - FILLERS <= COUNTS):
            ranks[name] = NAMED if parameter.default is not None else LIKELY
        elif place and not any(rank == UNNAMED for rank in ranks.values()):
            ranks[name] = UNNAMED
    return ranks


def _takes_number(parameter: inspect.Parameter) -> bool:
    """Whether a whole number may be meant: by its annotation, or else by its default."""
    annotation, default = parameter.annotation, parameter.default
    if annotation is not parameter.empty:
        words = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
        return re.search(r"\bint\b", f"{words} {annotation}") is not None
    if default is parameter.empty:
        return True
    return isinstance(default, int) and not isinstance(default, bool)


def _names(kind: Kind, function: Callable[..., Any], theirs: Parameters) -> dict[str, str]:
    """The arguments of a routing besides votes: the function's name -> ours.

    All that the routing takes and owns, and each option that the function has; a switch that is off
    only where the function has no default for it.
    """
    routing, names = kind.routing or Routing(), {}
    for name, owned in routing.arguments.items():
        ours = owned.argument(name)
        likely = next((word for word in (ours, name) if word in theirs), None)
        if likely is None and not _takes_any(function):
            raise ConformanceError(
                f"{getattr(function, '__qualname__', function)} takes no {ours}, which "
                f"{kind.title} needs; expected {kind.expected}: give it an argument {ours} or "
                f"{name}, wrap it in such a function, or say how it is called by --call"
            )
        names[likely or ours] = ours
    for option, usual in routing.options.items():
        if option != iterations(routing) and option in theirs:
            asked = usual is not False or theirs[option].default is inspect.Parameter.empty
            names |= {option: option} if asked else {}
    return names


def _takes_any(function: Callable[..., Any]) -> bool:
    """Whether it takes any name, or Python does not know what it takes."""
    signature = _signature(function)
    return signature is None or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in signature.values()
    )


def _signature(function: Callable[..., Any]) -> Parameters | None:
    """Its parameters, None where Python does not know them."""
    try:  # a torch module is called through *args; what it takes is written at its forward
        return inspect.signature(getattr(function, "forward", function)).parameters
    except (TypeError, ValueError):
        return None
