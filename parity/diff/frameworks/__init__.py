"""How each framework's modules are found, copied, cast and recorded; a file a framework."""

import importlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from parity.diff.frameworks._equinox import Equinox
from parity.diff.frameworks._jax import Function, Jax
from parity.diff.frameworks._jax import read as read_jax
from parity.diff.frameworks._linen import Linen
from parity.diff.frameworks._nnx import Nnx
from parity.diff.frameworks._plain import Plain
from parity.diff.frameworks._torch import Torch
from parity.diff.frameworks._torch import read as read_torch
from parity.diff.trace import DiffError

# Module of a base class -> how instances of its subclasses are recorded.
KINDS: dict[str, Callable[..., Any]] = {
    "torch.nn": Torch,
    "flax.nnx": Nnx,
    "flax.linen": Linen,
    "equinox": Equinox,
}

Adapter = Torch | Jax | Plain


def adapt(model: Any, call: Any, where: str) -> Adapter:
    """What records a model; raises DiffError for what is none."""
    kinds = {name: getattr(sys.modules[name], "Module") for name in KINDS if name in sys.modules}  # noqa: B009
    for name, base in kinds.items():
        if isinstance(model, base):
            return KINDS[name](model, call)
    linen = kinds.get("flax.linen")
    if isinstance(model, tuple) and len(model) == 2 and linen and isinstance(model[0], linen):
        return Linen(model, call)
    if not callable(model):
        raise DiffError(
            f"{where}: {type(model).__name__}; expected a torch.nn.Module, a flax.nnx.Module, "
            "(flax.linen.Module, variables), an equinox.Module, a function, or a trace's path"
        )
    for name, base in kinds.items():
        if name != "flax.linen" and any(isinstance(each, base) for each in _within(model)):
            return KINDS[name](model, call)
    return _function(model, call)


def read(x: Any) -> Any:
    """The values of a tensor of any framework; None for what is no tensor."""
    root = type(x).__module__.split(".")[0]
    if root == "torch":
        return read_torch(x)
    if root in ("jax", "jaxlib"):
        return read_jax(x)
    return np.asarray(x) if isinstance(x, np.ndarray | np.generic) else None


def _within(function: Any, depth: int = 0) -> Iterator[Any]:
    """What a function closes over, and the globals that it names, one function deep in another."""
    while not isinstance(function, types.FunctionType):
        if isinstance(function, types.MethodType):
            yield function.__self__
            return
        inner = getattr(function, "__wrapped__", None)
        if inner is None:
            return
        function = inner
        yield inner
    for cell in function.__closure__ or ():
        try:
            each = cell.cell_contents
        except ValueError:
            continue
        yield each
        if depth < 4:
            yield from _within(each, depth + 1)
    for name in function.__code__.co_names:
        if name in function.__globals__:
            each = function.__globals__[name]
            yield each
            if (
                isinstance(each, types.FunctionType)
                and depth < 4
                and (each.__module__ == function.__module__)
            ):
                yield from _within(each, depth + 1)


def _function(function: Any, call: Any) -> Adapter:
    """A plain function by the framework that its code names: NumPy's without one."""
    names: set[str] = set()
    for each in (function, call, *_within(function), *_within(call)):
        names.add(each.__name__ if isinstance(each, types.ModuleType) else type(each).__module__)
    tops = {name.split(".")[0] for name in names}
    if tops & {"jax", "jaxlib", "flax"}:
        importlib.import_module("jax")
        return Function(function, call)
    return Torch(function, call) if "torch" in tops else Plain(function, call)
