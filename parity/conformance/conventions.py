"""The ways to call somebody's function: guessed from its signature, or as the user says.

A guess comes likeliest first and says whether it is sure. Numbers that are wrong are the
function's own only where the way is sure; elsewhere the call may be what is wrong, and the user
is asked for `--call "f(votes, num_iterations=r)"`.
"""

import ast
import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from parity.conformance.kinds import POSES, ConformanceError, Kind, iterations
from parity.spec import Routing

Function = Callable[..., Any]
Parameters = dict[str, inspect.Parameter]

COUNT = "r"  # what the number of routing iterations is called in a call
AXES = ("axis", "dim")
# Names that speak of a number of iterations, surely and maybe.
SURELY = re.compile(r"(^|_)(n|num)?_?iter(s|ation|ations)?($|_)")
MAYBE = re.compile(r"rout|round|step|^[rnt]$")
TARGETS = re.compile(r"label|target|true|hot|truth|class|^[yt]$")
ONE_HOT = re.compile(r"hot|true")


@dataclass(frozen=True)
class Name:
    """An input of a kind, in a call."""

    text: str

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Way:
    """One way to call a function: what it is given by place and by keyword, names or constants."""

    places: tuple[Any, ...]
    keywords: Mapping[str, Any]
    sure: bool = False

    def __str__(self) -> str:
        named = (f"{key}={value!r}" for key, value in self.keywords.items())
        return f"f({', '.join([*map(repr, self.places), *named])})"

    @property
    def names(self) -> set[str]:
        """The inputs that it hands over."""
        given = itertools.chain(self.places, self.keywords.values())
        return {value.text for value in given if isinstance(value, Name)}


def inputs(kind: Kind) -> list[str]:
    """The names that a call of a function of this kind may use."""
    if kind.name == "squash":
        return ["x"]
    if kind.name == "margin_loss":
        return ["lengths", POSES, "labels", "one_hot"]
    routing = kind.routing or Routing()
    owned = [tensor.argument(name) for name, tensor in routing.owned.items()]
    count = iterations(routing)
    options = [name for name in routing.options if name != count]
    return ["votes", *owned, *options, *[COUNT] * (count is not None)]


def stated(kind: Kind, call: str) -> Way:
    """The way that `f(votes, num_iterations=r)` means; raises ConformanceError with the names.

    Only a call of f with names, numbers and other constants is read; nothing in it is run.
    """
    known = inputs(kind)

    def refuse(why: str) -> ConformanceError:
        return ConformanceError(
            f"call {call!r}: {why}; expected f(...) of {', '.join(known)} and constants, for "
            f'example "{_example(kind)}"'
        )

    def argument(node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            if node.id not in known:
                raise refuse(f"{node.id} is not known")
            return Name(node.id)
        try:
            return ast.literal_eval(node)
        except ValueError as error:
            raise refuse(f"{ast.unparse(node)} is no name and no constant") from error

    try:
        node = ast.parse(call.strip(), mode="eval").body
    except SyntaxError as error:
        raise refuse("it is no expression of Python") from error
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id != "f":
        raise refuse("it is no call of f")
    if any(isinstance(place, ast.Starred) for place in node.args) or None in [
        keyword.arg for keyword in node.keywords
    ]:
        raise refuse("stars are not read")
    places = tuple(map(argument, node.args))
    way = Way(places, {str(k.arg): argument(k.value) for k in node.keywords}, sure=True)
    if not way.names & {"x", "votes", "lengths", POSES}:
        raise refuse("it hands over none of what the function is about")
    return way


def _example(kind: Kind) -> str:
    examples = {"squash": "f(x, axis=-1)", "margin_loss": "f(one_hot, lengths)"}
    return examples.get(kind.name, f"f(votes, num_iterations={COUNT})")


def guessed(kind: Kind, function: Function) -> list[Way]:
    """The ways that a function's signature allows, likeliest first.

    Raises ConformanceError for a routing that does not take what the kind's owns.
    """
    parameters = _parameters(function)
    if kind.name == "squash":
        return list(_squashes(parameters))
    if kind.name == "margin_loss":
        return list(_losses(parameters))
    return list(_routings(kind, function, parameters))


def _parameters(function: Function) -> Parameters | None:
    """Its parameters; None where Python does not know them."""
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return None


def _squashes(parameters: Parameters | None) -> Iterator[Way]:
    x, names = Name("x"), list(parameters or ())[1:]
    axis = next((name for name in AXES if name in names), None)
    if axis is not None:
        yield Way((x,), {axis: -1}, sure=True)
    yield Way((x,), {}, sure=axis is None)
    yield Way((x, -1), {})


def _losses(parameters: Parameters | None) -> Iterator[Way]:
    """Lengths first or targets first, as the names say; labels or one-hot; lengths or poses."""
    first, second = (*list(parameters or ())[:2], "", "")[:2]
    targets_first = bool(TARGETS.search(first)) and not TARGETS.search(second)
    known = targets_first or bool(TARGETS.search(second))
    target = first if targets_first else second
    forms = ("one_hot", "labels") if ONE_HOT.search(target) else ("labels", "one_hot")
    orders = [targets_first] if known else [False, True]
    for about, turned, form in itertools.product(("lengths", POSES), orders, forms):
        pair = (Name(form), Name(about)) if turned else (Name(about), Name(form))
        yield _placed(parameters, pair, known)


def _placed(parameters: Parameters | None, values: tuple[Any, ...], sure: bool) -> Way:
    """A way that hands values over in order, by keyword where that is how they are taken."""
    places, keywords = [], {}
    for name, value in itertools.zip_longest(list(parameters or ())[: len(values)], values):
        if name is not None and (parameters or {})[name].kind is inspect.Parameter.KEYWORD_ONLY:
            keywords[name] = value
        else:
            places.append(value)
    return Way(tuple(places), keywords, sure)


def _routings(kind: Kind, function: Function, parameters: Parameters | None) -> Iterator[Way]:
    """With each parameter that may be the number of iterations, then with none, then in place."""
    votes, theirs = Name("votes"), dict(list((parameters or {}).items())[1:])
    beside = _beside(kind, function, theirs, unknown=parameters is None)
    left = {name: each for name, each in theirs.items() if name not in beside}
    required = {name for name, each in left.items() if each.default is inspect.Parameter.empty}
    count = iterations(kind.routing or Routing())
    if count is None:
        yield Way((votes,), beside, sure=not required)
        return
    for name, surely in _counts(left):
        keywords = {name: Name(COUNT), **beside}
        yield Way((votes,), keywords, sure=surely and required <= {name})
    yield Way((votes,), beside, sure=parameters is not None and not left)
    if parameters is None or any(each.kind is each.POSITIONAL_OR_KEYWORD for each in left.values()):
        yield Way((votes, Name(COUNT)), beside)


def _counts(parameters: Parameters) -> Iterator[tuple[str, bool]]:
    """The parameters that may be a number of iterations, and whether their name says so."""
    for pattern, surely in ((SURELY, True), (MAYBE, False)):
        for name, parameter in parameters.items():
            if pattern.search(name) and _numeric(parameter, surely):
                yield name, surely


def _numeric(parameter: inspect.Parameter, surely: bool) -> bool:
    """Whether it can be a number: its default is one, or missing; None where its name is sure."""
    default = parameter.default
    if parameter.annotation in (bool, "bool") or isinstance(default, bool):
        return False
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return False
    missing = default is inspect.Parameter.empty or (surely and default is None)
    return missing or isinstance(default, int)


def _beside(kind: Kind, function: Function, theirs: Parameters, unknown: bool) -> dict[str, Any]:
    """What a routing is given by keyword: all that it owns, and each option the function has.

    A switch that is off only where the function has no default for it.
    """
    routing = kind.routing or Routing()
    more = unknown or any(each.kind is each.VAR_KEYWORD for each in theirs.values())
    keywords: dict[str, Any] = {}
    for name, owned in routing.owned.items():
        ours = owned.argument(name)
        likely = next((each for each in (ours, name) if each in theirs), None)
        if likely is None and not more:
            raise ConformanceError(
                f"{getattr(function, '__qualname__', function)} takes no {ours}, which "
                f"{kind.title} needs; expected {kind.expected}: give it an argument {ours} or "
                f"{name}, or wrap it in such a function"
            )
        keywords[likely or ours] = Name(ours)
    for option, value in routing.options.items():
        if option != iterations(routing) and option in theirs:
            required = theirs[option].default is inspect.Parameter.empty
            if value is not False or required:
                keywords[option] = Name(option)
    return keywords
