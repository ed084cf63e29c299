"""What is measured of a wing: each function builds a case and returns the call that is timed.

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose.
"""

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from parity.data import Split
from parity.loop import scoring
from parity.spec import Sabour2017, preset, preset_card

# A case once built: does its work, and waits for the end of it.
Run = Callable[[], Any]


def trainer(wing: str, name: str, batch: int, precision: str = "float32", **how: Any) -> Any:
    """A Trainer of a preset."""
    card = preset_card(name)
    training = dataclasses.replace(card.training, batch_size=batch, precision=precision)
    return importlib.import_module(f"{wing}_caps").Trainer(card.network, training, **how)


def pictures(name: str, count: int) -> Split:
    """Images of random bytes, of every class in turn."""
    network, random = preset(name), np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, *network.image), np.uint8)
    return Split(pixels, np.arange(count) % network.classes)


def step(wing: str, name: str, batch: int, **how: Any) -> Run:
    """A training step of a preset; `how` are options of the Trainer, and the precision."""
    subject, split = trainer(wing, name, batch, **how), pictures(name, batch)
    images = split.images / np.float32(255)
    return lambda: subject.step(images, split.labels)


def evaluate(wing: str, name: str, batch: int, images: int, **how: Any) -> Run:
    """The loss and accuracy of a preset on many images, making of batches included."""
    subject, split = trainer(wing, name, batch, **how), pictures(name, images)
    return lambda: scoring.evaluate(subject, split, batch)


def digit_arrays(name: str, batch: int) -> list[np.ndarray]:
    """inputs_BIK, shorter than 1 as squashed poses are, kernel_IJKD, and a gradient of poses."""
    network, random = preset(name), np.random.default_rng(0)
    assert isinstance(network, Sabour2017)
    inputs, size, classes = network.num_inputs, network.primary.size, network.classes
    shapes = (
        (batch, inputs, size), (inputs, classes, size, network.pose), (batch, classes, network.pose)
    )  # fmt: skip
    arrays = [random.standard_normal(shape, np.float32) for shape in shapes]
    scales = 0.3 / size**0.5, 0.1, 1
    return [x * np.float32(scale) for x, scale in zip(arrays, scales, strict=True)]


def digit(wing: str, name: str, batch: int, lean: bool = True, num_iters: int = 3) -> Run:
    """The digit layer of a preset, forward and backward to its inputs and its kernel."""
    caps = importlib.import_module(f"{wing}_caps")
    *arrays, gradient = digit_arrays(name, batch)

    def layer(inputs_BIK: Any, kernel_IJKD: Any) -> Any:
        if lean:
            return caps.lean.dynamic(inputs_BIK, kernel_IJKD, num_iters=num_iters)
        return caps.routing.dynamic(caps.votes(inputs_BIK, kernel_IJKD), num_iters=num_iters)[0]

    return timed(wing, layer, arrays, gradient)


def conv(wing: str, name: str, batch: int, method: str, backward: bool) -> Run:
    """The primary convolution; forward alone, the spectra of its kernel are kept."""
    caps, network = importlib.import_module(f"{wing}_caps"), preset(name)
    assert isinstance(network, Sabour2017)
    primary, random = network.primary, np.random.default_rng(0)
    taken = sum(layer.kernel - 1 for layer in network.stem)
    side, channels = network.image[0] - taken, network.stem[-1].channels
    x_BHWC = np.abs(random.standard_normal((batch, side, side, channels), np.float32))
    shape = primary.channels, primary.kernel, primary.kernel, channels
    kernel_OHWI = random.standard_normal(shape, np.float32) * np.float32(0.05)
    places = (side - primary.kernel) // primary.stride + 1
    gradient = np.ones((batch, places, places, primary.channels), np.float32)
    # Each wing's own layout: OIHW in memory as torch's parameters are, or HWIO.
    axes = (0, 3, 1, 2) if wing == "torch" else (1, 2, 3, 0)
    framework = importlib.import_module("torch" if wing == "torch" else "jax.numpy")
    spectra = None
    if method == "fourier" and not backward:
        tensors = [framework.asarray(x) for x in (x_BHWC, kernel_OHWI.transpose(axes))]
        of = caps.fourier.sizes(*tensors, primary.stride)
        spectra = caps.fourier.spectra(tensors[1], of)

    def layer(x_BHWC: Any, kernel: Any) -> Any:
        how = None, method, 1, spectra
        return caps.convolution.conv(x_BHWC, kernel, primary.stride, framework.float32, *how)

    arrays = [x_BHWC, kernel_OHWI.transpose(axes)]
    return timed(wing, layer, arrays, gradient if backward else None)


def timed(
    wing: str, function: Callable[..., Any], arrays: Sequence[np.ndarray], gradient: Any
) -> Run:
    """A function of some arrays: forward, or with a gradient forward and backward to each."""
    if wing == "jax":
        return _jax(function, arrays, gradient)
    torch = importlib.import_module("torch")
    tensors = [torch.from_numpy(x).requires_grad_(gradient is not None) for x in arrays]

    def forward() -> None:
        with torch.no_grad():
            function(*tensors)

    if gradient is None:
        return forward
    gradient = torch.from_numpy(gradient)
    return lambda: torch.autograd.grad(function(*tensors), tensors, gradient)


def _jax(function: Callable[..., Any], arrays: Sequence[np.ndarray], gradient: Any) -> Run:
    jax = importlib.import_module("jax")

    def both(gradient: Any, *tensors: Any) -> Any:
        value, pull = jax.vjp(function, *tensors)
        return value, pull(gradient)

    call = jax.jit(function if gradient is None else both)
    tensors = [jax.numpy.asarray(x) for x in (*(() if gradient is None else (gradient,)), *arrays)]
    return lambda: jax.block_until_ready(call(*tensors))
