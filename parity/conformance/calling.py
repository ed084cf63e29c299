"""Calls somebody else's function in each installed framework."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.conformance.expressions import Call, Input
from parity.conformance.kinds import ConformanceError, directions, value
from parity.conformance.mistakes import Case
from parity.spec import error_line

Array = np.ndarray
Function = Callable[..., Any]

ROOTS = {"numpy": ("numpy", "builtins"), "torch": ("torch",), "jax": ("jax", "jaxlib")}


@dataclass(frozen=True)
class Answer:
    """The outputs of a function for one case, and the gradient where there is one."""

    case: Case
    values: list[Array]
    gradient: Array | None

    @property
    def finite(self) -> bool:
        """Whether there is no NaN and no infinity in it."""
        given = self.values if self.gradient is None else [*self.values, self.gradient]
        return all(np.isfinite(array).all() for array in given)


Answers = dict[str, Answer]


@dataclass(frozen=True)
class Attempt:
    """One way to call a function, tried in every framework.

    Attributes:
        answers: Framework -> case -> what it gave, where every case was answered.
        refusals: Framework -> why it was not.
    """

    call: Call
    rank: int
    answers: dict[str, Answers] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)


def frameworks() -> list[str]:
    """The frameworks that are installed, NumPy first."""
    return ["numpy", *(name for name in ("torch", "jax") if importlib.util.find_spec(name))]


def attempt(function: Function, call: Call, rank: int, cases: Mapping[str, Case]) -> Attempt:
    """Calls a function in one way, in every framework, until it refuses a case."""
    tried = Attempt(call, rank)
    for framework in frameworks():
        answers = {}
        for name, case in cases.items():
            try:
                answers[name] = _ask(function, framework, call, case)
            except (Exception, SystemExit) as error:  # whatever somebody else's code may raise
                at = f", in the case {name!r}" if answers else ""
                tried.refusals[framework] = f"{useful(error)}{at}"
                break
        else:
            tried.answers[framework] = answers
    return tried


def useful(error: BaseException) -> str:
    """An exception's type and the main line of its message; our own messages as they are."""
    return str(error) if isinstance(error, ConformanceError) else error_line(error)


def _ask(function: Function, framework: str, call: Call, case: Case) -> Answer:
    """A function's answer to a case.

    Raises ConformanceError for outputs of a wrong shape or type, and whatever the function does.
    """

    def outputs(x: Any, array: Callable[[Array], Any]) -> list[Any]:
        def term(argument: Any) -> Any:
            if not isinstance(argument, Input):
                return argument
            if argument.name in ("x", "votes", "lengths"):
                return x
            if argument.name == "poses":
                return x[..., None] * array(directions(case))
            given = value(case, argument.name)
            return array(given) if isinstance(given, Array) else given

        named = {name: term(argument) for name, argument in call.named.items()}
        return _checked(function(*map(term, call.positional), **named), case, framework)

    return Answer(case, *RUNNERS[framework](outputs, case))


def _checked(result: Any, case: Case, framework: str) -> list[Any]:
    """What was returned as a list, after a look at its shapes and types.

    A loss of each sample is taken as the mean of them.
    """
    outputs = list(result) if isinstance(result, tuple | list) else [result]
    for output in outputs:
        number = framework != "numpy" or np.asarray(output).dtype.kind in "fiu"
        if type(output).__module__.split(".")[0] not in ROOTS[framework] or not number:
            raise ConformanceError(f"returned {type(output).__name__}, no array of {framework}")
    if case.kind == "margin_loss" and [np.shape(output) for output in outputs] == [
        case.x.shape[:1]
    ]:
        outputs = [outputs[0].mean()]
    shapes = [tuple(np.shape(output)) for output in outputs]
    expected = [output.shape for output in case.values()][: max(len(outputs), 1)]
    if shapes != expected:
        raise ConformanceError(f"returned shapes {shapes}; expected {expected}")
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

    # Their code may promote ranks, which the JAX wing forbids itself.
    with jax.default_matmul_precision("highest"), jax.numpy_rank_promotion("allow"):
        slope, values = jax.grad(total, has_aux=True)(jnp.asarray(case.x))
    return [np.asarray(value) for value in values], np.asarray(slope)


RUNNERS = {"numpy": _run_numpy, "torch": _run_torch, "jax": _run_jax}
