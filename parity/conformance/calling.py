"""Calling somebody else's function in its own framework, and its answers as NumPy arrays."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.conformance.kinds import ConformanceError, Kind, Routed, iterations
from parity.conformance.mistakes import Case
from parity.reference import one_hot
from parity.spec import Routing

Array = np.ndarray
Function = Callable[..., Any]
# A convention says what follows a function's first argument; None for a case it cannot put.
Arguments = tuple[list[Any], dict[str, Any]]
Convention = Callable[[Case], Arguments | None]

ROOTS = {"numpy": ("numpy", "builtins"), "torch": ("torch",), "jax": ("jax", "jaxlib")}


@dataclass(frozen=True)
class Answer:
    """What a function gave for one case: its outputs, and the gradient where there is one."""

    case: Case
    values: list[Array]
    gradient: Array | None

    @property
    def finite(self) -> bool:
        """Whether there is no NaN and no infinity in it."""
        given = self.values if self.gradient is None else [*self.values, self.gradient]
        return all(np.isfinite(array).all() for array in given)


def frameworks() -> Iterator[str]:
    """NumPy, then what is imported already (by the function's module, say), then what is there."""
    yield "numpy"
    there = [name for name in ("torch", "jax") if importlib.util.find_spec(name)]
    yield from sorted(there, key=lambda name: name not in sys.modules)


def conventions(kind: Kind, function: Function) -> dict[str, Convention]:
    """The ways to call a function of a kind, likeliest first.

    Raises ConformanceError for a routing that does not take what the kind's owns.
    """
    if kind.name == "squash":
        return {"f(x)": lambda case: ([], {}), "f(x, -1)": lambda case: ([-1], {})}
    if kind.name == "margin_loss":
        return {
            "f(lengths, labels)": lambda case: ([case.more[0]], {}),
            "f(lengths, one-hot)": lambda case: ([_one_hot(case)], {}),
        }
    assert kind.routing is not None
    names = _names(kind, function)
    beside = "".join(f", {theirs}={ours}" for theirs, ours in names.items())

    def named(case: Case) -> dict[str, Any]:
        return {theirs: _value(case, ours) for theirs, ours in names.items()}

    count = iterations(kind.routing)
    if count is None:
        return {f"f(votes{beside})": lambda case: ([], named(case))}
    if (name := _iterations(function, names)) is not None:
        return {
            f"f(votes, {name}=n{beside})": lambda case: ([], {name: case.more[0], **named(case)})
        }
    usual = kind.routing.options[count]  # what a function that takes no number of them is held to
    return {
        f"f(votes{beside})": lambda case: ([], named(case)) if case.more[0] == usual else None,
        f"f(votes, n{beside})": lambda case: ([case.more[0]], named(case)),
    }


def _names(kind: Kind, function: Function) -> dict[str, str]:
    """What a routing function is given by name: its own argument's name -> what that is here.

    All that the routing owns, and each option that the function has; a switch that is off only
    where the function has no default for it.
    """
    routing, theirs = kind.routing or Routing(), _parameters(function)
    more = theirs is None or any(each.kind is each.VAR_KEYWORD for each in theirs.values())
    theirs, names = theirs or {}, {}
    for name, owned in routing.owned.items():
        ours = owned.argument(name)
        likely = next((each for each in (ours, name) if each in theirs), None)
        if likely is None and not more:
            raise ConformanceError(
                f"{getattr(function, '__qualname__', function)} takes no {ours}, which "
                f"{kind.title} needs; expected {kind.expected}: give it an argument {ours} or "
                f"{name}, or wrap it in such a function"
            )
        names[likely or ours] = ours
    for option, value in routing.options.items():
        if option != iterations(routing) and option in theirs:
            asked = value is not False or theirs[option].default is inspect.Parameter.empty
            names |= {option: option} if asked else {}
    return names


def _value(case: Case, name: str) -> Any:
    if isinstance(case, Routed):
        return {**case.owned, **case.routing.options}[name]
    return Routing().options[name]


def _one_hot(case: Case) -> Array:
    return one_hot(case.more[0], case.x.shape[1]).astype(np.float32)


def _parameters(function: Function) -> Mapping[str, inspect.Parameter] | None:
    """Its parameters but the first; None where Python does not know them."""
    try:
        return dict(list(inspect.signature(function).parameters.items())[1:])
    except (TypeError, ValueError):
        return None


def _iterations(function: Function, but: Iterable[str]) -> str | None:
    """The name of the parameter that is the number of routing iterations."""
    names = [name for name in _parameters(function) or () if name not in but]
    likely = [name for name in names if "iter" in name or "rout" in name or name in ("r", "n")]
    return likely[0] if likely else None


def ask(function: Function, framework: str, convention: Convention, case: Case) -> Answer | None:
    """A function's answer to a case, None where the convention cannot put it.

    Raises ConformanceError for outputs of a wrong shape or type, and whatever the function does.
    """
    arguments = convention(case)
    if arguments is None:
        return None
    positional, named = arguments

    def outputs(x: Any, array: Callable[[Array], Any]) -> list[Any]:
        def given(each: Any) -> Any:
            return array(each) if isinstance(each, Array) else each

        rest, beside = map(given, positional), {name: given(each) for name, each in named.items()}
        return _checked(function(x, *rest, **beside), case, framework)

    return Answer(case, *RUNNERS[framework](outputs, case))


def _checked(result: Any, case: Case, framework: str) -> list[Any]:
    """What was returned as a list, after a look at its shapes and types."""
    outputs = list(result) if isinstance(result, tuple | list) else [result]
    shapes = [tuple(np.shape(output)) for output in outputs]
    expected = [value.shape for value in case.values()][: max(len(outputs), 1)]
    if shapes != expected:
        raise ConformanceError(f"returned shapes {shapes}; expected {expected}")
    for output in outputs:
        if type(output).__module__.split(".")[0] not in ROOTS[framework]:
            raise ConformanceError(f"returned {type(output).__name__}, no array of {framework}")
    return outputs


def _run_numpy(outputs: Callable[..., list[Any]], case: Case) -> tuple[list[Array], None]:
    with np.errstate(all="ignore"):
        return [np.asarray(output) for output in outputs(case.x.copy(), np.copy)], None


def _run_torch(outputs: Callable[..., list[Any]], case: Case) -> tuple[list[Array], Array]:
    torch = importlib.import_module("torch")
    x = torch.tensor(case.x, requires_grad=True)
    with torch.enable_grad():
        values = outputs(x.clone(), torch.tensor)
        total = (values[0] * torch.tensor(case.weights)).sum()
    slope = None
    if total.requires_grad:
        (slope,) = torch.autograd.grad(total, x, allow_unused=True)
    slope = torch.zeros_like(x) if slope is None else slope
    return [value.detach().cpu().numpy() for value in values], slope.numpy()


def _run_jax(outputs: Callable[..., list[Any]], case: Case) -> tuple[list[Array], Array]:
    jax, jnp = importlib.import_module("jax"), importlib.import_module("jax.numpy")

    def total(x):
        values = outputs(x, jnp.asarray)
        return (values[0] * case.weights).sum(), values

    with jax.default_matmul_precision("highest"):
        slope, values = jax.grad(total, has_aux=True)(jnp.asarray(case.x))
    return [np.asarray(value) for value in values], np.asarray(slope)


RUNNERS = {"numpy": _run_numpy, "torch": _run_torch, "jax": _run_jax}
