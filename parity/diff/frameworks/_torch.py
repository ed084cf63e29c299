"""PyTorch: forward hooks on every module of a copy of the model."""

import contextlib
import copy
import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from parity.diff.frameworks._plain import closures
from parity.diff.nested import leaves
from parity.diff.tape import Tape, active


class Torch:
    """A torch.nn.Module, or a plain function of tensors, to be recorded; the user's stays as it is.

    Args:
        model: The module or function.
        call: (model, *inputs) -> outputs, where it is not simply called.
    """

    name = "torch"

    def __init__(self, model: Any, call: Any = None) -> None:
        self.torch = importlib.import_module("torch")
        self.call, self.dtype = call, self.torch.float32
        self.modules: list[Any] = []
        self.model = self._copy(model)
        first = next((p for _, p in self._parameters() if p.is_floating_point()), None)
        if first is not None:
            self.dtype = first.dtype

    def _copy(self, model: Any) -> Any:
        module = self.torch.nn.Module
        if isinstance(model, module):
            model = getattr(model, "_orig_mod", model)  # of torch.compile
            self.modules.append(copy.deepcopy(model))
            return self.modules[-1]
        return closures(model, lambda each: isinstance(each, module), self._copy)

    def cast(self) -> None:
        """Casts parameters, buffers and whatever is made on the way to float64."""
        for each in self.modules:
            each.to(self.torch.float64)
        self.dtype = self.torch.float64

    def parameters(self, tape: Tape) -> None:
        """Puts parameters and buffers on the tape, those that are tied once."""
        names: dict[int, list[str]] = {}
        tensors = {}
        for name, tensor in self._parameters():
            names.setdefault(id(tensor), []).append(name)
            tensors[id(tensor)] = tensor
        for key, tensor in tensors.items():
            if tensor.ndim == 0 and not tensor.is_floating_point():  # a count of batches
                continue
            tape.parameter(names[key], read(tensor))

    def _parameters(self) -> Iterator[tuple[str, Any]]:
        for each in self.modules:
            yield from each.named_parameters(remove_duplicate=False)
            yield from each.named_buffers(remove_duplicate=False)

    def given(self, x: Any) -> Any:
        """An input as a tensor, a float one in the model's dtype."""
        if isinstance(x, np.ndarray | np.generic):
            x = self.torch.tensor(np.asarray(x))
        if isinstance(x, self.torch.Tensor) and x.is_floating_point():
            x = x.detach().to(self.dtype)
        return x

    def run(self, inputs: Sequence[Any], gradients: bool = False) -> Any:
        """One recorded pass; returns what the model returned."""
        default = self.torch.get_default_dtype()
        if self.dtype == self.torch.float64:
            self.torch.set_default_dtype(self.dtype)
        try:
            with self._hooks(), self.torch.set_grad_enabled(gradients):
                return self.model(*inputs) if self.call is None else self.call(self.model, *inputs)
        finally:
            self.torch.set_default_dtype(default)

    def backward(self, tape: Tape, inputs: Sequence[Any], weights: dict[str, np.ndarray]) -> None:
        """One more pass, and the gradient of sum(output * weight) at every node and parameter."""
        torch = self.torch

        def attach(node: int, x: Any) -> Any:
            if x.requires_grad:
                # A copy, which what follows goes on with: what the module itself made of the
                # tensor adds nothing to its gradient, as on JAX's side.
                x = x.clone()
                x.register_hook(lambda g: tape.gradient(str(node), read(g)))
            return x

        tape.attach = attach
        inputs = [self._leaf(x) for x in inputs]
        for each in self.modules:
            each.zero_grad()
        inputs = tape.record("inputs", tuple(inputs), "given")
        finals = dict(leaves(self.run(inputs, gradients=True)))
        total: Any = sum(
            (finals[part] * torch.tensor(weight, dtype=finals[part].dtype)).sum()
            for part, weight in weights.items()
        )
        if total.requires_grad:
            total.backward()
        done: set[int] = set()
        for name, tensor in self._parameters():
            if id(tensor) not in done and tensor.grad is not None:
                tape.gradient(name, read(tensor.grad))
            done.add(id(tensor))

    def _leaf(self, x: Any) -> Any:
        return x.clone().requires_grad_() if getattr(x, "is_floating_point", bool)() else x

    @contextlib.contextmanager
    def _hooks(self) -> Iterator[None]:
        names: dict[int, str] = {}
        modules = []
        for model in self.modules:
            for name, module in model.named_modules():
                names[id(module)] = name or "model"
                modules.append(module)
        calls: list[int] = []

        def before(module: Any, args: Any, kwargs: Any) -> None:
            if (tape := active()) is not None:
                given = (*args, *kwargs.values())
                calls.append(tape.enter(names[id(module)], type(module).__name__, given))

        def after(module: Any, args: Any, kwargs: Any, result: Any) -> Any:
            if (tape := active()) is not None:
                return tape.leave(calls.pop(), result)

        hooks = []
        for each in modules:
            hooks.append(each.register_forward_pre_hook(before, with_kwargs=True))
            hooks.append(each.register_forward_hook(after, with_kwargs=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def read(x: Any) -> Any:
    """A tensor's values now, apart from the tensor: what is written into it later is not seen."""
    if isinstance(x, np.ndarray):
        return x
    if not hasattr(x, "detach") or not hasattr(x, "is_floating_point"):
        return None
    x = x.detach().cpu()
    if x.is_sparse or x.is_quantized:
        return x.dequantize().numpy() if x.is_quantized else x.to_dense().numpy()
    # NumPy has no bfloat16 and no float8: float32 holds both exactly.
    if x.is_floating_point() and x.dtype.itemsize < 4 and str(x.dtype) != "torch.float16":
        x = x.float()
    return x.numpy()
