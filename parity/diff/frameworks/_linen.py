"""Flax linen: a module and its variables; calls are recorded by an interceptor."""

import functools
import importlib
from collections.abc import Iterator, Sequence
from typing import Any

from parity.diff.frameworks._jax import Jax, entered


class Linen(Jax):
    """A tuple (flax.linen.Module, variables), or a module that is bound to its variables."""

    def __init__(self, model: Any, call: Any = None) -> None:
        super().__init__(model, call)
        self.linen = importlib.import_module("flax.linen")
        if not isinstance(model, tuple):
            model = model.unbind()
        module, self.variables = model
        self.model, self.runs = module, 0

    def cast(self) -> None:
        """Casts every variable to float64; a dtype of a module stays as it was told."""
        super().cast()
        self.variables = self.jax.tree.map(self.up, self.variables)

    def arrays(self) -> Iterator[tuple[str, Any]]:
        """Every variable by its path, without the name of its collection."""
        flat = self.jax.tree_util.tree_flatten_with_path(dict(self.variables))[0]
        for path, array in flat:
            yield ".".join(str(each.key) for each in path[1:]), array

    def trainable(self) -> Any:
        """The collection params."""
        return dict(self.variables)["params"] if "params" in self.variables else {}

    def merged(self, trained: Any) -> Any:
        """The model's variables with these parameters, for `called`."""
        return {**self.variables, "params": trained} if "params" in self.variables else None

    def called(self, model: Any, inputs: Sequence[Any]) -> Any:
        """Applies the module; its state may change and is forgotten, Dropout has keys."""
        variables = self.variables if model is self.model or model is None else model
        self.runs += 1
        key = self.jax.random.key(self.runs)
        apply = functools.partial(
            self.model.apply,
            variables,
            mutable=[each for each in variables if each != "params"],
            rngs={"dropout": key, "params": key},
        )
        with self.linen.intercept_methods(_record):
            if self.call is None:
                return apply(*inputs)[0]
            return self.call(lambda *args, **kwargs: apply(*args, **kwargs)[0], *inputs)


def _record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    if context.method_name != "__call__":
        return call(*args, **kwargs)
    name = ".".join(context.module.path) or "model"
    return entered(name, type(context.module).__name__, call, args, kwargs)
