"""The convolution of each wing against the oracle's: values and gradients, any shape and stride."""

import importlib

import numpy as np
import pytest
import wings

from parity import reference

PRECISIONS = [
    pytest.param("float32", id="float32"),
    pytest.param("float64", id="float64", marks=pytest.mark.float64),
]
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}
# batch, height, width, channels; kernel height, width; out; stride
SHAPES = {
    "odd sizes": (3, 13, 11, 5, 3, 2, 7, 1),
    "leftover rows and columns": (2, 13, 11, 3, 4, 4, 5, 2),
    "stride beyond the kernel": (2, 23, 13, 1, 2, 2, 5, 3),
    "one place": (5, 3, 7, 2, 3, 7, 11, 1),
    "one pixel of a kernel": (3, 5, 7, 2, 1, 1, 3, 2),
    "one image, one channel": (1, 17, 19, 1, 9, 9, 3, 1),
    "strips of rows": (2, 11, 7, 53, 5, 3, 2, 2),
}

QUICK = ("leftover rows and columns", "stride beyond the kernel", "strips of rows")


def case(shape, precision):
    batch, height, width, channels, size_h, size_w, out, stride = shape
    draw = np.random.default_rng(0)
    x = draw.standard_normal((batch, height, width, channels)).astype(precision)
    kernel = draw.standard_normal((size_h, size_w, channels, out)).astype(precision)
    return x, kernel, stride


def run(wing, x, kernel, stride, cotangent=1.0):
    """The wing's convolution and its gradients, the kernel in canonical axes throughout."""
    if wing.__name__ == "torch_caps":
        torch = importlib.import_module("torch")
        compute = getattr(torch, str(x.dtype))
        return wings.gradients(
            wing,
            lambda x, k: wing.convolution.conv(x, k.permute(3, 2, 0, 1), stride, compute),
            [x, kernel],
            cotangent,
        )
    return wings.gradients(
        wing,
        lambda x, k: wing.convolution.conv(x, k, stride, x.dtype),
        [x, kernel],
        cotangent,
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", wings.wide(SHAPES, QUICK.__contains__))
def test_values_and_gradients_are_the_oracles(wing, name, precision):
    x, kernel, stride = case(SHAPES[name], precision)
    expected = reference.conv(x, kernel, stride)
    draw = np.random.default_rng(1)
    cotangent = draw.standard_normal(expected.shape).astype(precision)
    value, slopes = run(wing, x, kernel, stride, cotangent)
    assert wings.difference(value, expected) < TOLERANCE[precision]
    functions = [
        lambda x: (reference.conv(x, kernel, stride) * cotangent).sum(),
        lambda k: (reference.conv(x, k, stride) * cotangent).sum(),
    ]
    for at, function, slope in zip((x, kernel), functions, slopes, strict=True):
        direction = draw.standard_normal(at.shape)
        exact = reference.derivative(function, at, direction)
        size = np.abs(slope * direction).sum()
        assert abs((slope * direction).sum() - exact) <= TOLERANCE[precision] * size


@pytest.mark.slow
def test_blocks_of_images_change_nothing(monkeypatch):
    """The JAX wing works through the batch in blocks: the last is filled with zeros."""
    wing = wings.load("jax")
    x, kernel, stride = case((7, 13, 11, 3, 4, 4, 5, 2), "float32")
    whole = run(wing, x, kernel, stride)
    for numbers in (1, 2 * 20 * 48, 3 * 20 * 48):
        monkeypatch.setattr(wing.convolution, "_BLOCK", numbers)
        value, slopes = run(wing, x, kernel, stride)
        assert wings.difference(value, whole[0]) < 1e-6
        for a, b in zip(slopes, whole[1], strict=True):
            assert wings.difference(a, b) < 1e-6


def test_second_derivatives_are_right():
    """Through the JAX wing's own gradient rule, as through XLA's convolution."""
    wing = wings.load("jax")
    jax = importlib.import_module("jax")
    x, kernel, stride = case((2, 7, 5, 2, 3, 2, 3, 2), "float32")

    def penalty(conv):
        def loss(x, k):
            return (conv(x, k) ** 3).sum()

        return jax.grad(lambda k: (jax.grad(loss)(x, k) ** 2).sum())(kernel)

    ours = penalty(lambda x, k: wing.convolution.conv(x, k, stride, x.dtype))
    library = penalty(lambda x, k: wing.convolution._by_library(x, k, stride))
    assert wings.difference(ours, library) < 1e-5
