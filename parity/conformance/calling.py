"""Calling somebody else's function in a framework, and its answers as NumPy arrays."""

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.conformance.conventions import COUNT, Function, Name, Way
from parity.conformance.kinds import POSES, ConformanceError, Kind, Routed, iterations
from parity.conformance.mistakes import Case
from parity.reference import one_hot
from parity.spec import Routing

Array = np.ndarray

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
    """NumPy, and those of the frameworks that are installed."""
    yield "numpy"
    yield from (name for name in ("torch", "jax") if importlib.util.find_spec(name))


def answers(kind: Kind, function: Function, framework: str, way: Way) -> dict[str, Answer]:
    """A function's answers to the cases of its kind, in one framework and called in one way.

    Raises ConformanceError for outputs of a wrong shape or type, and whatever the function does.
    """
    cases = kind.posed if POSES in way.names else kind.cases
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of frameworks that it was not written for
        given = {name: ask(kind, function, framework, way, case) for name, case in cases.items()}
    return {name: answer for name, answer in given.items() if answer is not None}


def ask(kind: Kind, function: Function, framework: str, way: Way, case: Case) -> Answer | None:
    """The answer to one case; None where the way cannot put it, as it says no iterations."""
    known = _inputs(kind, case)
    if COUNT in known and COUNT not in way.names:
        # A function that takes no number of them is held to the usual number.
        routing = kind.routing or Routing()
        if known[COUNT] != routing.options[str(iterations(routing))]:
            return None

    def outputs(x: Any, array: Callable[[Array], Any]) -> list[Any]:
        def value(argument: Any) -> Any:
            if not isinstance(argument, Name):
                return argument
            if argument.text not in known:  # of a kind, the array that is asked about
                return x
            given = known[argument.text]
            return array(given) if isinstance(given, Array) else given

        places = map(value, way.places)
        keywords = {name: value(argument) for name, argument in way.keywords.items()}
        return _checked(function(*places, **keywords), case, framework)

    return Answer(case, *RUNNERS[framework](outputs, case))


def _inputs(kind: Kind, case: Case) -> dict[str, Any]:
    """What a call may name beside the array that is asked about."""
    if kind.name == "squash":
        return {}
    if kind.name == "margin_loss":
        (labels,) = case.more
        return {"labels": labels, "one_hot": one_hot(labels, case.x.shape[1]).astype(np.float32)}
    routed = isinstance(case, Routed)
    options = (case.routing if routed else Routing()).options
    number = {COUNT: case.more[0]} if case.more else {}
    return {**options, **(case.owned if routed else {}), **number}


def _checked(result: Any, case: Case, framework: str) -> list[Any]:
    """What was returned as a list, after a look at its shapes and types.

    A loss may be one an image, [B]; its mean is taken.
    """
    outputs = list(result) if isinstance(result, tuple | list) else [result]
    if case.kind == "margin_loss" and np.shape(outputs[0]) == case.x.shape[:1]:
        outputs[0] = outputs[0].mean()
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
