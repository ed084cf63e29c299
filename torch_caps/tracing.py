"""Every tensor of a pass forward and backward, and its gradient, by name.

Axes: B batch, H W C image.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parity import weights as canonical
from torch_caps.arrays import given, numpy, parameters, to_canonical
from torch_caps.networks import Network
from torch_caps.numerics import compiled


def trace(
    net: Network,
    images_BHWC: np.ndarray,
    targets: np.ndarray,
    parts: Any = None,
    *,
    compile: bool | None = None,
    train: bool = True,
) -> tuple[canonical.Arrays, canonical.Arrays]:
    """Records the value and the gradient of every tensor of one pass, by name.

    The pass computes the loss of the batch. Each tap adds a zero to its tensor, and the gradient by
    that zero is the tensor's own.

    Args:
        net: The network, which is not changed.
        images_BHWC: Floating, in 0 to 1.
        targets: Integer labels [B], or 0/1 [B, J]; see `Network.terms`.
        parts: What each image is made of, if that is known.
        compile: True for torch.compile, False for operation by operation; None for
            this wing's usual, operation by operation.
        train: Whether the pass is that of a training step, or of an evaluation.

    Returns:
        Two dictionaries of arrays: the values, and the gradients of the loss by them. Both have
        first the taps, then the parameters as `parameter/<name>` in canonical axes, each in the
        order of execution. State is among them, with gradients of 0: no optimiser moves it.
    """
    images = net.images(images_BHWC)
    labels = given(targets).to(images.device)

    def run(zeros: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        tapped: dict[str, Tensor] = {}

        def tap(name: str, x: Tensor) -> Tensor:
            tapped[name] = x + zeros[name] if zeros else x
            return tapped[name]

        loss, _ = net.loss(images, labels, tap, parts, train=train)
        return loss, tapped

    # A first pass finds the names and shapes of the taps; the second adds a zero at each.
    with torch.no_grad():
        zeros = {name: torch.zeros_like(x).requires_grad_() for name, x in run({})[1].items()}
    loss, values = (compiled(run) if compile else run)(zeros)
    # One backward pass for all: by the zeros, and by the parameters.
    params = {
        f"parameter/{name}": (parameter, orders) for name, parameter, orders in parameters(net)
    }
    trained = {
        name: parameter for name, (parameter, _) in params.items() if parameter.requires_grad
    }
    inputs = zeros | trained
    by_input = torch.autograd.grad(loss, list(inputs.values()), materialize_grads=True)
    slopes = dict(zip(inputs, by_input, strict=True))
    values = {name: numpy(values[name]) for name in zeros}
    gradients = {name: numpy(slopes[name]) for name in zeros}
    for name, (parameter, orders) in params.items():
        values[name] = to_canonical(parameter, orders)
        slope = slopes[name] if name in slopes else torch.zeros_like(parameter)
        gradients[name] = to_canonical(slope, orders)
    return values, gradients


def differentiate(
    function: Callable[..., Tensor], arrays: Sequence[np.ndarray], cotangent: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The value of a function, and its gradients.

    Args:
        function: Of as many tensors as there are arrays.
        arrays: Where it is called.
        cotangent: The weights of its outputs, in their shape or one that broadcasts to it.

    Returns:
        function(*arrays), and the gradient of sum(function(*arrays) * cotangent) by each array.
    """
    inputs = [torch.tensor(array, requires_grad=True) for array in arrays]
    value = function(*inputs)
    loss = (value * torch.tensor(cotangent)).sum()
    slopes = torch.autograd.grad(loss, inputs, materialize_grads=True)
    return numpy(value), [numpy(slope) for slope in slopes]
