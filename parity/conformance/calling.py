"""Calling somebody else's function in its own framework, and its answers as NumPy arrays."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.conformance.mistakes import Case
from parity.reference import one_hot
from parity.spec import TwincapsError

Array = np.ndarray
Function = Callable[..., Any]
# A convention says what follows a function's first argument; None for a case it cannot put.
Arguments = tuple[list[Any], dict[str, Any]]
Convention = Callable[[Case], Arguments | None]

ITERATIONS = 3  # what a routing function that takes no number of them is held to
EXPECTED = {
    "squash": "f(x) with x [B, N, D], poses along the last axis, returning the same shape",
    "routing": "f(votes, num_iters) or f(votes), which is held to three iterations, with votes "
    "[B, I, J, D], returning poses [B, J, D] or (poses, couplings [B, I, J])",
    "margin_loss": "f(lengths, targets) with lengths [B, J] and targets as labels [B] or one-hot "
    "[B, J], returning a scalar",
}
ROOTS = {"numpy": ("numpy", "builtins"), "torch": ("torch",), "jax": ("jax", "jaxlib")}


class ConformanceError(TwincapsError):
    """A function that cannot be loaded, or cannot be called as its kind is."""


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


def conventions(kind: str, function: Function) -> dict[str, Convention]:
    """The ways to call a function of a kind, likeliest first."""
    if kind == "squash":
        return {"f(x)": lambda case: ([], {}), "f(x, -1)": lambda case: ([-1], {})}
    if kind == "margin_loss":
        return {
            "f(lengths, labels)": lambda case: ([case.more[0]], {}),
            "f(lengths, one-hot)": lambda case: ([_one_hot(case)], {}),
        }
    if (name := _iterations(function)) is not None:
        return {f"f(votes, {name}=n)": lambda case: ([], {name: case.more[0]})}
    return {
        "f(votes)": lambda case: ([], {}) if case.more[0] == ITERATIONS else None,
        "f(votes, n)": lambda case: ([case.more[0]], {}),
    }


def _one_hot(case: Case) -> Array:
    return one_hot(case.more[0], case.x.shape[1]).astype(np.float32)


def _iterations(function: Function) -> str | None:
    """The name of the parameter that is the number of routing iterations."""
    try:
        _, *names = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None
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
        rest = [array(each) if isinstance(each, Array) else each for each in positional]
        return _checked(function(x, *rest, **named), case, framework)

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
