"""What every JAX library has in common: tracers, 64-bit types, compiled regions, gradients."""

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from parity.diff.nested import leaves
from parity.diff.tape import Pending, Tape, active


class Jax:
    """A side in JAX: a subclass says how a model's modules call `entered`.

    Args:
        model: The user's, which stays as it is.
        call: (model, *inputs) -> outputs, where it is not simply called.
    """

    name = "jax"

    def __init__(self, model: Any, call: Any = None) -> None:
        self.jax = importlib.import_module("jax")
        self.call, self.model, self.double = call, model, False

    def parameters(self, tape: Tape) -> None:
        """Puts parameters and state on the tape, those that are shared once."""
        names: dict[int, list[str]] = {}
        arrays = {}
        for name, array in self.arrays():
            names.setdefault(id(array), []).append(name)
            arrays[id(array)] = array
        for key, array in arrays.items():
            tape.parameter(names[key], np.asarray(array))

    def arrays(self) -> Iterator[tuple[str, Any]]:
        """Name and array of each parameter and state; of a plain function there are none."""
        yield from ()

    def trainable(self) -> Any:
        """The parameters to differentiate by, as one tree; `merged` puts them back."""
        return {}

    def merged(self, trained: Any) -> Any:
        """The model with these parameters."""
        return self.model

    def called(self, model: Any, inputs: Sequence[Any]) -> Any:
        """What a model returns."""
        return model(*inputs) if self.call is None else self.call(model, *inputs)

    def cast(self) -> None:
        """Everything in float64 from now on; a subclass casts its parameters as well."""
        self.double = True

    def up(self, x: Any) -> Any:
        """A float array in float64, anything else as it is."""
        if not hasattr(x, "dtype") or not self.jax.numpy.issubdtype(x.dtype, np.floating):
            return x
        with self.wide():
            return self.jax.numpy.asarray(x).astype(np.float64)

    @contextlib.contextmanager
    def wide(self) -> Iterator[None]:
        """64-bit types, where this side has been cast."""
        with self.jax.enable_x64(True) if self.double else contextlib.nullcontext():
            yield

    def given(self, x: Any) -> Any:
        """An input as an array, a float one in this side's precision."""
        if isinstance(x, np.ndarray | np.generic):
            x = np.asarray(x)
            if x.dtype.kind == "f":
                x = x.astype(np.float64 if self.double else np.float32)
            with self.wide():
                return self.jax.numpy.asarray(x)
        return self.up(x) if self.double else x

    def run(self, inputs: Sequence[Any]) -> Any:
        """One recorded pass; where a compiler hides values, `tape.untraced` names the modules."""
        with self.wide():
            result = self.called(self.model, inputs)
            self.jax.block_until_ready([leaf for _, leaf in leaves(result)])
            self.jax.effects_barrier()
        return result

    def backward(self, tape: Tape, inputs: Sequence[Any], weights: dict[str, np.ndarray]) -> None:
        """One more pass, and the gradient of sum(output * weight) at every node and parameter."""
        jax, numpy = self.jax, self.jax.numpy
        tape.attach = functools.partial(_tapped, jax, tape)

        def loss(trained: Any, inputs: Sequence[Any]) -> Any:
            inputs = tape.record("inputs", tuple(inputs), "given")
            finals = dict(leaves(self.called(self.merged(trained), inputs)))
            return sum(
                (finals[part] * numpy.asarray(weight, finals[part].dtype)).sum()
                for part, weight in weights.items()
            )

        with self.wide():
            # By the inputs as well: what nothing is asked of has no backward pass.
            slope_of = jax.grad(loss, argnums=(0, 1), allow_int=True)
            slopes, _ = slope_of(self.trainable(), list(inputs))
            jax.effects_barrier()
        for path, slope in jax.tree_util.tree_flatten_with_path(slopes)[0]:
            if slope.dtype != jax.dtypes.float0:
                tape.gradient(dotted(path), np.asarray(slope))


def dotted(path: Sequence[Any]) -> str:
    """A path in a tree of JAX as one name."""
    parts = []
    for each in path:
        key = next((getattr(each, n) for n in ("key", "name", "idx") if hasattr(each, n)), each)
        parts.append(str(key))
    return ".".join(part for part in parts if part not in ("value", "_fun"))


def _tapped(jax: Any, tape: Tape, node: int, x: Any) -> Any:
    """The identity, whose backward pass records the gradient."""
    if not jax.numpy.issubdtype(x.dtype, np.inexact):
        return x

    @jax.custom_vjp
    def tap(x: Any) -> Any:
        return x

    def backward(_: Any, slope: Any) -> tuple[Any]:
        array = read(slope)
        if isinstance(array, Pending):
            array.then(lambda value: tape.gradient(str(node), np.asarray(value)))
        elif array is not None:
            tape.gradient(str(node), array)
        return (slope,)

    tap.defvjp(lambda x: (x, None), backward)
    return tap(x)


def read(x: Any) -> Any:
    """The values of an array, also of one under vmap or grad; Pending inside a compiler.

    Under vmap the whole batch is there, its axis first.
    """
    if isinstance(x, np.ndarray):
        return x
    jax = importlib.import_module("jax")
    while isinstance(x, jax.core.Tracer):
        if hasattr(x, "batch_dim"):
            value, axis = x.val, x.batch_dim  # pyright: ignore
            moves = isinstance(axis, int) and axis != 0 and not isinstance(value, jax.core.Tracer)
            x = np.moveaxis(np.asarray(value), axis, 0) if moves else value
        elif hasattr(x, "primal"):
            x = x.primal  # pyright: ignore
        else:
            return _pending(jax, x)
    if isinstance(x, np.ndarray):
        return x
    if not isinstance(x, jax.Array):
        return None
    if jax.numpy.issubdtype(x.dtype, jax.dtypes.extended):  # keys of random numbers
        return None
    return np.asarray(x)


def _pending(jax: Any, x: Any) -> Pending | None:
    """A value that an ordered callback brings, once the compiled region runs."""
    if (tape := active()) is not None:
        tape.untraced[tape.where()] = None
    return Pending(lambda take: jax.debug.callback(take, x, ordered=True))


def entered(name: str, kind: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Calls a module, recorded where a pass is being recorded."""
    if (tape := active()) is None:
        return call(*args, **kwargs)
    number = tape.enter(name, kind, (*args, *kwargs.values()))
    return tape.leave(number, call(*args, **kwargs))


def renamed(kind: type, name: str) -> type:
    """A subclass of a module's class whose instances are recorded when they are called.

    The name is the class's, not the instance's: compilers take instances apart and make new ones.
    """

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        bound = functools.partial(kind.__call__, self)  # pyright: ignore[reportCallIssue]
        return entered(name, kind.__name__, bound, args, kwargs)

    body = {"__call__": __call__, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind)(kind.__name__, (kind,), body)


class Function(Jax):
    """A plain function of JAX arrays, in which `record` says what is looked at."""
