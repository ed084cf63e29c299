"""Squash, lengths and routing at the edges: zero, tiny, huge and constant inputs."""

import numpy as np
import pytest
import wings

from parity import reference

PRECISIONS = [
    pytest.param("float32", id="float32"),
    pytest.param("float64", id="float64", marks=pytest.mark.float64),
]
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}


def poses(precision, norm, shape=(5, 7)):
    """Random directions, each of length `norm`."""
    x = np.random.default_rng(0).standard_normal(shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True) * norm).astype(precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("exponent", [-17, -12, -6, -3, -1, 0, 1, 3, 6, 8])
@pytest.mark.parametrize("name", ["squash", "lengths"])
def test_accurate_for_norms_from_1e_minus_17_to_1e8(wing, precision, exponent, name):
    x = poses(precision, 10.0**exponent)
    weight = np.random.default_rng(1).standard_normal(getattr(reference, name)(x).shape)
    value, [slope] = wings.gradients(
        wing, getattr(wing.capsules, name), [x], weight.astype(precision)
    )
    expected = getattr(reference, name)
    exact = reference.gradient(
        lambda x: (expected(x) * weight.astype(precision)).sum(), x, h=1e-30 * 10.0**exponent
    )
    assert wings.difference(value, expected(x)) < TOLERANCE[precision]
    # At norm n the gradient is a sum of terms n times its size: rounding of each remains.
    worth = max(np.abs(exact).max(), np.abs(expected(x)).max() / 10.0**exponent)
    assert np.abs(slope - exact).max() < TOLERANCE[precision] * worth


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("norm", [0.0, 1e-30, 1e-25, 1e-20, 1e10, 1e15, 1e18])
@pytest.mark.parametrize("name", ["squash", "lengths"])
def test_finite_from_1e_minus_30_to_1e18(wing, precision, norm, name):
    for x in (poses(precision, norm), np.full((5, 7), norm, precision)):
        value, [slope] = wings.gradients(wing, getattr(wing.capsules, name), [x])
        assert np.isfinite(value).all()
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["squash", "lengths"])
def test_value_and_gradient_at_zero_are_exactly_zero(wing, precision, name):
    x = poses(precision, 1.0)
    x[2] = 0
    value, [slope] = wings.gradients(wing, getattr(wing.capsules, name), [x])
    assert not value[2].any()
    assert not slope[2].any()
    assert slope[[0, 1, 3, 4]].all()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("options", [{}, {"leaky": True}, {"num_iters": 1}, {"detach": True}])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-10, 1.0, 1e9, 1e18])
def test_routing_stays_finite(wing, precision, options, scale):
    """Operation by operation: compiled, XLA overflows at equal float32 votes of 1e18.

    A network routes lean, whose gradient is its own and stays finite there, compiled too
    (test_numerical_safety.py).
    """
    draw = np.random.default_rng(0)
    for votes in (draw.standard_normal((2, 5, 3, 7)), np.ones((2, 5, 3, 7))):
        value, [slope] = wings.gradients(
            wing,
            lambda x: wing.routing.dynamic(x, **options)[0],
            [(votes * scale).astype(precision)],
            jit=False,
        )
        assert np.isfinite(value).all()
        assert np.isfinite(slope).all()


def test_squash_along_any_axis(wing):
    x = poses("float32", 1.0, (3, 5, 7))
    for axis in (0, 1, 2, -1, -2, -3):
        value = wings.numpy(wing.capsules.squash(wings.array(wing, x), axis))
        assert wings.difference(value, reference.squash(x, axis)) < TOLERANCE["float32"]


def test_fewer_than_one_iteration_is_refused(wing):
    with pytest.raises(ValueError, match="num_iters is 0; expected at least 1"):
        wing.routing.dynamic(wings.array(wing, np.ones((1, 2, 3, 5), "float32")), num_iters=0)
