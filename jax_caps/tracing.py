"""Every tensor of a pass forward and backward, and its gradient, by name.

Axes: B batch, H W C image.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from jax_caps.arrays import _by_name, concrete, given, numpy, parameters, to_canonical
from jax_caps.networks import Network
from jax_caps.numerics import compiled
from parity import weights as canonical
from parity.spec import check_targets


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
        compile: True for jax.jit, False for operation by operation; None for this wing's
            usual, jax.jit.
        train: Whether the pass is that of a training step, or of an evaluation.

    Returns:
        Two dictionaries of arrays: the values, and the gradients of the loss by them. Both have
        first the taps, then the parameters as `parameter/<name>` in canonical axes, each in the
        order of execution. State is among them, with gradients of 0: no optimiser moves it.
    """
    graph, params, state = nnx.split(net, nnx.Param, nnx.BatchStat)
    # Checked here, as inside they are traced and have no values. They are arguments, so that a
    # kept program is found again for other images.
    images = net.images(images_BHWC)
    check_targets(concrete(targets), net.spec.classes, len(images))
    batch = images, given(targets), None if parts is None else net.parts(parts, len(images))
    order: list[str] = []

    def run(
        params: Any, zeros: dict[str, Array], state: Any, batch: Any
    ) -> tuple[Array, dict[str, Array]]:
        tapped: dict[str, Array] = {}

        def tap(name: str, x: Array) -> Array:
            order.append(name)
            tapped[name] = x + zeros[name] if zeros else x
            return tapped[name]

        whole = nnx.merge(graph, params, state)
        images, labels, parts = batch
        loss, _ = whole.loss(images, labels, tap, parts, train=train)
        return loss, tapped

    # A first pass, of shapes alone, finds the taps; the second adds a zero at each.
    _, shapes = jax.eval_shape(run, params, {}, state, batch)
    names = tuple(order)
    zeros = {name: jnp.zeros(shapes[name].shape, shapes[name].dtype) for name in names}
    # One backward pass for all: by the parameters, and by the zeros.
    with jax.disable_jit(compile is False):
        backward = compiled(jax.grad(run, argnums=(0, 1), has_aux=True))
        (slopes, gradients), values = backward(params, zeros, state, batch)
    values = {name: numpy(values[name]) for name in names}
    gradients = {name: numpy(gradients[name]) for name in names}
    slopes = _by_name(slopes)
    for name, parameter, orders in parameters(net):
        values[f"parameter/{name}"] = to_canonical(parameter[...], orders)
        slope = slopes[name][...] if name in slopes else jnp.zeros_like(parameter[...])
        gradients[f"parameter/{name}"] = to_canonical(slope, orders)
    return values, gradients


def differentiate(
    function: Callable[..., Array], arrays: Sequence[np.ndarray], cotangent: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The value of a function, and its gradients.

    Args:
        function: Of as many tensors as there are arrays.
        arrays: Where it is called.
        cotangent: The weights of its outputs, in their shape or one that broadcasts to it.

    Returns:
        function(*arrays), and the gradient of sum(function(*arrays) * cotangent) by each array.
    """
    value, pull = jax.vjp(function, *map(jnp.array, arrays))
    slopes = pull(jnp.broadcast_to(jnp.asarray(cotangent, value.dtype), value.shape))
    return numpy(value), [numpy(slope) for slope in slopes]
