"""Equinox: a copy of the model in which each module's class is one whose calls are recorded."""

import dataclasses
import importlib
from collections.abc import Iterator
from typing import Any

from parity.diff.frameworks._jax import Jax, dotted, renamed
from parity.diff.frameworks._plain import closures


class Equinox(Jax):
    """An equinox.Module, or a function that closes over some, as `jax.vmap(model)` does."""

    def __init__(self, model: Any, call: Any = None) -> None:
        super().__init__(model, call)
        self.equinox = importlib.import_module("equinox")
        self.modules: list[Any] = []
        self.given_model = model
        self.model = self._copied(model)

    def _copied(self, model: Any) -> Any:
        module = self.equinox.Module
        if isinstance(model, module):
            self.modules.append(self.jax.tree.map(self.up, model) if self.double else model)
            return _wrapped(module, self.modules[-1], "")
        return closures(model, lambda each: isinstance(each, module), self._copied)

    def cast(self) -> None:
        """Casts every array of the model to float64."""
        super().cast()
        self.modules = []
        self.model = self._copied(self.given_model)

    def arrays(self) -> Iterator[tuple[str, Any]]:
        """Every array of the model by its path."""
        for model in self.modules:
            for path, leaf in self.jax.tree_util.tree_flatten_with_path(model)[0]:
                if self.equinox.is_array(leaf):
                    yield dotted(path), leaf

    def trainable(self) -> Any:
        """The float arrays of the model, where it is the model that is called."""
        return self._parts()[0]

    def merged(self, trained: Any) -> Any:
        """The model with these arrays."""
        single = isinstance(self.model, self.equinox.Module)
        return self.equinox.combine(trained, self._parts()[1]) if single else self.model

    def _parts(self) -> tuple[Any, Any]:
        if not isinstance(self.model, self.equinox.Module):
            return {}, None
        return self.equinox.partition(self.model, self.equinox.is_inexact_array)


def _wrapped(module: type, node: Any, name: str) -> Any:
    """A copy of a tree in which every module that can be called is recorded when it is."""
    if isinstance(node, module):
        kind = type(node)
        copied = object.__new__(renamed(kind, name or "model") if callable(node) else kind)
        for field in dataclasses.fields(node):  # pyright: ignore[reportArgumentType]
            if hasattr(node, field.name):
                # Equinox's own transformations hold the user's module in a field of this name.
                inner = name if field.name == "_fun" else f"{name}.{field.name}".strip(".")
                value = _wrapped(module, getattr(node, field.name), inner)
                object.__setattr__(copied, field.name, value)
        return copied
    if isinstance(node, list | tuple) and not hasattr(node, "_fields"):
        return type(node)(_wrapped(module, x, f"{name}.{n}") for n, x in enumerate(node))
    if type(node) is dict:
        return {key: _wrapped(module, x, f"{name}.{key}") for key, x in node.items()}
    return node
