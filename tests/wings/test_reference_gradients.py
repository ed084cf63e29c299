"""The oracle's gradients by complex step: against central differences, and at zero capsules."""

from dataclasses import replace

import numpy as np
import pytest
from test_reference import NAMES, OPTIONS, PLAIN, SPEC, B, D, I, J, close, network, normal

from parity import reference
from parity.weights import table


def slope(function, x, direction, step=1e-6):
    """A central difference, good to about 1e-9."""
    return (function(x + step * direction) - function(x - step * direction)) / (2 * step)


FUNCTIONS = {
    "squash": (lambda x: (reference.squash(x) * normal(B, D, seed=9)).sum(), (B, D)),
    "squash axis 0": (lambda x: (reference.squash(x, 0) * normal(B, D, seed=9)).sum(), (B, D)),
    "lengths": (lambda x: (reference.lengths(x) * normal(B, seed=9)).sum(), (B, D)),
    "votes, inputs": (
        lambda x: (reference.votes(x, normal(I, J, 2, D)) * normal(B, I, J, D, seed=9)).sum(),
        (B, I, 2),
    ),
    "votes, kernel": (
        lambda x: (reference.votes(normal(B, I, 2), x) * normal(B, I, J, D, seed=9)).sum(),
        (I, J, 2, D),
    ),
    "margin": (lambda x: reference.margin(x, [2, 0]), (B, J)),
    "reconstruction": (lambda x: reference.reconstruction(x, normal(B, 5, seed=9)), (B, 5)),
    "sigmoid": (lambda x: (reference.sigmoid(x) * normal(B, 5, seed=9)).sum(), (B, 5)),
    "relu": (lambda x: (reference.relu(x) * normal(B, 5, seed=9)).sum(), (B, 5)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_complex_step_against_central_differences(name):
    function, shape = FUNCTIONS[name]
    x = normal(*shape, seed=3)
    gradient = reference.gradient(function, x)
    assert gradient.dtype == np.float64
    assert np.abs(gradient).max() > 1e-3
    for seed in range(4):
        direction = normal(*shape, seed=seed)
        close((gradient * direction).sum(), slope(function, x, direction), 1e-7)
        close(reference.derivative(function, x, direction), (gradient * direction).sum(), 1e-13)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("of", ["votes", "bias"])
def test_gradient_of_dynamic(options, of):
    votes, bias = normal(B, I, J, D), normal(J, D, seed=1) if options["bias"] else np.zeros((J, D))
    weights = normal(B, J, D, seed=2)

    def function(x):
        given = {"votes": votes, "bias": bias} | {of: x}
        rest = {"num_iters": options["num_iters"], "leaky": options["leaky"]}
        poses, _ = reference.routing.dynamic(given["votes"], bias_JD=given["bias"], **rest)
        return (poses * weights).sum()

    x = votes if of == "votes" else bias
    for seed in range(3, 6):
        direction = normal(*x.shape, seed=seed)
        close(reference.derivative(function, x, direction), slope(function, x, direction), 1e-8)


@pytest.mark.parametrize("leaky", [False, True])
@pytest.mark.parametrize("num_iters", [1, 2, 3])
def test_detach_makes_the_last_couplings_constants(num_iters, leaky):
    votes, bias, weights = normal(B, I, J, D), normal(J, D, seed=1), normal(B, J, D, seed=2)
    options = {"num_iters": num_iters, "leaky": leaky}
    poses, coupling = reference.routing.dynamic(votes, bias_JD=bias, **options, detach=True)
    plain, _ = reference.routing.dynamic(votes, bias_JD=bias, **options)
    np.testing.assert_array_equal(poses, plain)

    def frozen(votes, bias):
        return (
            reference.squash(np.einsum("bij,bijd->bjd", coupling, votes) + bias) * weights
        ).sum()

    def routed(votes, bias, detach=True):
        poses, _ = reference.routing.dynamic(votes, bias_JD=bias, **options, detach=detach)
        return (poses * weights).sum()

    got = reference.gradient(lambda x: routed(x, bias), votes)
    close(got, reference.gradient(lambda x: frozen(x, bias), votes))
    close(
        reference.gradient(lambda x: routed(votes, x), bias),
        reference.gradient(lambda x: frozen(votes, x), bias),
    )
    through = reference.gradient(lambda x: routed(x, bias, detach=False), votes)
    assert num_iters == 1 or np.abs(got - through).max() > 1e-3


@pytest.mark.parametrize("name", ["image", *table(SPEC)])
def test_gradient_of_a_network(name):
    arrays, images, labels = network(SPEC)
    x = images if name == "image" else arrays[name]

    def loss(x):
        changed = arrays if name == "image" else arrays | {name: x}
        return reference.forward(SPEC, changed, x if name == "image" else images, labels)["loss"]

    direction = normal(*x.shape, seed=5)
    got = reference.derivative(loss, x, direction)
    assert abs(got) > 1e-6
    close(got, slope(loss, x, direction), 1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_a_tap_can_change_any_tensor(name):
    """The gradient of the loss by an intermediate, as the ladder takes it."""
    arrays, images, labels = network(SPEC)
    seen = reference.forward(SPEC, arrays, images, labels)
    direction = normal(*seen[name].shape, seed=5)

    def loss(change):
        def tap(tapped, x):
            return x + change if tapped == name else x

        return reference.forward(SPEC, arrays, images, labels, tap)["loss"]

    zero = np.zeros(seen[name].shape)
    got = reference.derivative(loss, zero, direction)
    assert abs(got) > 1e-8
    close(got, slope(loss, zero, direction), 1e-8)


def test_a_tap_on_the_image_is_the_image():
    """Also in the reconstruction loss, whose target is the image."""
    arrays, images, labels = network(SPEC)
    change = 0.1 * normal(*images.shape, seed=5)
    tapped = reference.forward(
        SPEC, arrays, images, labels, lambda name, x: x + change if name == "image" else x
    )
    given = reference.forward(SPEC, arrays, images + change, labels)
    close(tapped["loss"], given["loss"])


def test_detach_reaches_the_routing_of_a_network():
    arrays, images, labels = network(PLAIN)
    attached = replace(PLAIN, routing=replace(PLAIN.routing, detach=False))
    direction = normal(*arrays["digit.kernel"].shape, seed=5)

    def along(spec):
        def loss(kernel):
            changed = arrays | {"digit.kernel": kernel}
            return reference.forward(spec, changed, images, labels)["loss"]

        return reference.derivative(loss, arrays["digit.kernel"], direction)

    assert abs(along(PLAIN) - along(attached)) > 1e-6


# Zero, small and large.


def test_relu_has_gradient_zero_at_zero():
    gradient = reference.gradient(lambda x: reference.relu(x).sum(), [-1.0, 0.0, 2.0])
    np.testing.assert_array_equal(gradient, [0, 0, 1])


@pytest.mark.parametrize("function", [reference.squash, reference.lengths])
def test_a_zero_capsule_has_value_and_gradient_exactly_zero(function):
    x = normal(3, D)
    x[1] = 0
    assert (function(x)[1] == 0).all()
    gradient = reference.gradient(lambda x: function(x).sum(), x)
    assert (gradient[1] == 0).all()
    assert (gradient[[0, 2]] != 0).all()


@pytest.mark.parametrize("leaky", [False, True])
def test_routing_of_zero_votes(leaky):
    votes = normal(B, I, J, D)
    votes[0], votes[1, :, 1] = 0, 0
    poses, _ = reference.routing.dynamic(votes, leaky=leaky)
    assert (poses[0] == 0).all()
    assert (poses[1, 1] == 0).all()
    assert (poses[1, [0, 2]] != 0).all()
    weights = normal(B, J, D, seed=2)
    gradient = reference.gradient(
        lambda x: (reference.routing.dynamic(x, leaky=leaky)[0] * weights).sum(), votes
    )
    assert (gradient[0] == 0).all()
    assert (gradient[1, :, 1] == 0).all()
    assert np.isfinite(gradient).all()


def test_a_black_image_without_biases_gives_no_nan():
    arrays, images, labels = network(PLAIN)
    arrays["primary.bias"] = np.zeros_like(arrays["primary.bias"])

    def loss(kernel):
        changed = arrays | {"primary.kernel": kernel}
        return reference.forward(PLAIN, changed, images * 0, labels)["loss"]

    close(loss(arrays["primary.kernel"]), np.float64(0.81))
    gradient = reference.derivative(loss, arrays["primary.kernel"], normal(2, 2, 2, 6, seed=5))
    assert gradient == 0


@pytest.mark.parametrize("norm", [1e-30, 1e-17, 1e-5, 1.0, 1e8, 1e18])
def test_squash_over_the_promised_range(norm):
    direction = np.array([3, -4, 12]) / 13
    length = norm * norm / (1 + norm * norm)
    close(reference.squash(norm * direction) / length, direction)
    if norm < 1e-17:
        return  # a complex step of 1e-30 is not small beside it
    tangent = np.array([4, 3, 0]) / 5
    slopes = {
        "radial": (direction, 2 * norm / (1 + norm * norm) ** 2),
        "tangential": (tangent, norm / (1 + norm * norm)),
    }
    for along, expected in slopes.values():
        got = reference.derivative(reference.squash, norm * direction, along)
        scale = norm / (1 + norm * norm)
        close(got / scale, expected / scale * along, 1e-13)
