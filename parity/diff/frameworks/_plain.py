"""Plain functions: of NumPy as they are; of a framework with the modules that they close over."""

import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from parity.diff.tape import Tape


class Plain:
    """A function of NumPy arrays, in which `record` alone says what is looked at."""

    name = "numpy"

    def __init__(self, model: Any, call: Any = None) -> None:
        self.model, self.call, self.double = model, call, False

    def cast(self) -> None:
        """Gives inputs in float64; what the function makes of them is its own."""
        self.double = True

    def parameters(self, tape: Tape) -> None:
        """A function has none that could be seen."""

    def given(self, x: Any) -> Any:
        """An input as an array."""
        x = np.asarray(x)
        return x.astype(np.float64 if self.double else np.float32) if x.dtype.kind == "f" else x

    def run(self, inputs: Sequence[Any]) -> Any:
        """One recorded pass."""
        return self.model(*inputs) if self.call is None else self.call(self.model, *inputs)


def closures(function: Any, wanted: Callable[[Any], bool], change: Callable[[Any], Any]) -> Any:
    """A function with what it closes over, and its module's globals, changed where `wanted`.

    `lambda x: jax.vmap(model)(x)` and `jax.vmap(model)` are calls of a module that is inside.
    """
    made: dict[int, Any] = {}

    def changed(each: Any) -> Any:
        if wanted(each):
            return made.setdefault(id(each), change(each))
        if isinstance(each, types.FunctionType):
            return _rebuilt(each, changed)
        if isinstance(each, types.MethodType) and wanted(each.__self__):
            return getattr(changed(each.__self__), each.__name__)
        return each

    inner = getattr(function, "__wrapped__", None)
    if not isinstance(function, types.FunctionType | types.MethodType) and inner is not None:
        return changed(inner)  # a compiled function: recorded as it is written
    return changed(function)


def _rebuilt(function: types.FunctionType, changed: Callable[[Any], Any]) -> Any:
    cells = function.__closure__ or ()
    try:
        contents = [cell.cell_contents for cell in cells]
    except ValueError:  # a function that is not yet whole
        return function
    inside = [each if each is function else changed(each) for each in contents]
    used = {n: function.__globals__[n] for n in function.__code__.co_names
            if n in function.__globals__}  # fmt: skip
    outside = {
        name: changed(value)
        for name, value in used.items()
        if not isinstance(value, types.FunctionType | type | types.ModuleType)
    }
    fresh = {name: value for name, value in outside.items() if value is not used[name]}
    if all(a is b for a, b in zip(inside, contents, strict=True)) and not fresh:
        return function
    made = types.FunctionType(
        function.__code__,
        {**function.__globals__, **fresh} if fresh else function.__globals__,
        function.__name__,
        function.__defaults__,
        tuple(types.CellType(each) for each in inside),
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made
