"""What is measured of the JAX wing; each function builds a case and gives what runs it.

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

import jax_caps
from benchmarks import arrays, training
from benchmarks.contract import Run
from jax_caps import convolution, lean, routing
from jax_caps.numerics import dtypes
from parity.spec import NetworkSpec, Precision, from_dict

Layer = Callable[..., Array]


def plain(inputs_BIK: Array, kernel_IJKD: Array, *, num_iters: int = 3) -> Array:
    """The digit layer whose votes are stored."""
    votes_BIJD = jax_caps.votes(inputs_BIK, kernel_IJKD)
    return routing.dynamic(votes_BIJD, num_iters=num_iters)[0]


def layer(variant: str) -> Layer:
    """A digit layer by name: plain or lean. Every case is under jax.jit."""
    return {"plain": plain, "lean": lean.dynamic}[variant]


def forget() -> None:
    """Drop what was compiled."""
    jax.clear_caches()


def _waiting(function: Callable[..., Any], *arguments: Any) -> Run:
    def run() -> None:
        jax.block_until_ready(function(*arguments))

    return run


def _both(call: Callable[..., Array], a: Array, b: Array, gradient: Array) -> Any:
    """call(a, b), and its gradients by both."""
    value, pull = jax.vjp(call, a, b)
    return value, pull(gradient)


def digit(variant: str, spec: Any, batch: int, inputs: int, num_iters: int, backward: bool) -> Run:
    """The digit layer forward, or forward and backward to its inputs and its kernel."""
    call = partial(layer(variant), num_iters=num_iters)
    values = _digit_arrays(spec, batch, inputs)
    if backward:
        return _waiting(jax.jit(partial(_both, call)), *values)
    return _waiting(jax.jit(call), *values[:2])


def temporaries(variant: str, spec: Any, batch: int, inputs: int, num_iters: int) -> int | None:
    """Bytes that XLA plans for what is neither argument nor result of forward and backward."""
    call = jax.jit(partial(_both, partial(layer(variant), num_iters=num_iters)))
    compiled = call.lower(*_digit_arrays(spec, batch, inputs)).compile()
    analysis = compiled.memory_analysis()
    return None if analysis is None else analysis.temp_size_in_bytes


def digit_step(variant: str, spec: Any, batch: int, inputs: int, num_iters: int) -> Run:
    """A training step of a digit layer alone: forward, backward, Adam on its kernel."""
    call = partial(layer(variant), num_iters=num_iters)
    inputs_BIK, kernel, gradient = _digit_arrays(spec, batch, inputs)
    adam = optax.adam(1e-3)

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(kernel: Array, state: Any, inputs_BIK: Array, gradient: Array) -> Any:
        _, (down, slope) = _both(call, inputs_BIK, kernel, gradient)
        change, state = adam.update(slope, state)
        return optax.apply_updates(kernel, change), state, down

    held = [kernel, adam.init(kernel)]

    def run() -> None:
        held[0], held[1], down = update(held[0], held[1], inputs_BIK, gradient)
        jax.block_until_ready((held, down))

    return run


def _digit_arrays(spec: Any, batch: int, inputs: int) -> list[Array]:
    return [jnp.asarray(x) for x in arrays.digit(from_dict(NetworkSpec, spec), batch, inputs)]


def conv(spec: Any, batch: int, precision: Precision, backward: bool) -> Run:
    """The primary convolution forward, or forward and backward to its input and its kernel."""
    network = from_dict(NetworkSpec, spec)
    x_BHWC, kernel = map(jnp.asarray, arrays.features(network, batch))
    stride, compute = network.primary.stride, dtypes(precision)[1]

    def call(x_BHWC: Array, kernel: Array) -> Array:
        return convolution.conv(x_BHWC, kernel, stride, compute)

    if not backward:
        return _waiting(jax.jit(call), x_BHWC, kernel)
    made = jax.eval_shape(call, x_BHWC, kernel)
    gradient = jnp.ones(made.shape, made.dtype)
    return _waiting(jax.jit(partial(_both, call)), x_BHWC, kernel, gradient)


def convolutions(spec: Any, batch: int, images: int) -> Run:
    """Every convolution of a network forward, on as many batches as hold `images`."""
    network = from_dict(NetworkSpec, spec)
    net = jax_caps.CapsuleNetwork(network)
    x_BHWC = jnp.asarray(arrays.images(network, batch).images) / 255.0
    held = [each.kernel[...] for each in (*net.stem, net.primary)]
    strides = [*(each.stride for each in network.stem), network.primary.stride]

    @jax.jit
    def forward(x: Array, kernels: list[Array]) -> Array:
        for kernel, stride in zip(kernels, strides, strict=True):
            x = convolution.conv(x, kernel, stride, x.dtype)
        return x

    def run() -> None:
        for _ in range(-(-images // batch)):
            forward(x_BHWC, held).block_until_ready()

    return run


def product(size: int, dtype: str) -> Run:
    """A product of two square matrices."""
    a, b = (jax.random.uniform(jax.random.key(n), (size, size)).astype(dtype) for n in range(2))
    return _waiting(jax.jit(jnp.matmul), a, b)


# A whole training step, an evaluation of many images, an epoch of the training loop.
step = partial(training.step, jax_caps.Trainer)
evaluate = partial(training.evaluate, jax_caps.Trainer)
loop = partial(training.loop, jax_caps.Trainer)
