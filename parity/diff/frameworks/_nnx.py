"""Flax nnx: every instance of a copy of the model gets a subclass whose calls are recorded."""

import importlib
from collections.abc import Iterator
from typing import Any

from parity.diff.frameworks._jax import Jax, renamed
from parity.diff.frameworks._plain import closures


class Nnx(Jax):
    """A flax.nnx.Module, or a function that closes over some."""

    def __init__(self, model: Any, call: Any = None) -> None:
        super().__init__(model, call)
        self.nnx = importlib.import_module("flax.nnx")
        self.modules: list[Any] = []
        self.model = self._copied(model)

    def _copied(self, model: Any) -> Any:
        module = self.nnx.Module
        if not isinstance(model, module):
            return closures(model, lambda each: isinstance(each, module), self._copied)
        copied = self.nnx.clone(model)
        for path, each in list(self.nnx.iter_modules(copied)):
            if callable(each):
                each.__class__ = renamed(type(each), ".".join(map(str, path)) or "model")
        self.modules.append(copied)
        return copied

    def cast(self) -> None:
        """Casts every variable, and what modules were told to compute in, to float64."""
        super().cast()
        float32 = self.jax.numpy.float32
        for model in self.modules:
            self.nnx.update(model, self.jax.tree.map(self.up, self.nnx.state(model)))
            for _, each in self.nnx.iter_modules(model):
                if getattr(each, "dtype", None) in (float32, self.jax.numpy.dtype("float32")):
                    each.dtype = self.jax.numpy.float64

    def arrays(self) -> Iterator[tuple[str, Any]]:
        """Every variable by its path, but those of random numbers."""
        for model in self.modules:
            for path, variable in self.nnx.to_flat_state(self.nnx.state(model)):
                value = variable.get_value()
                if not isinstance(variable, self.nnx.RngState) and hasattr(value, "dtype"):
                    yield ".".join(map(str, path)), value

    def trainable(self) -> Any:
        """The parameters of the model, where it is the model that is called."""
        if self.modules and self.model is self.modules[0]:
            return self.nnx.state(self.model, self.nnx.Param)
        return {}

    def merged(self, trained: Any) -> Any:
        """The model with these parameters."""
        if not self.modules or self.model is not self.modules[0]:
            return self.model
        graph, _, rest = self.nnx.split(self.model, self.nnx.Param, ...)
        return self.nnx.merge(graph, trained, rest)
