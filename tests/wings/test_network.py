"""A whole network in each wing against the oracle: every tensor forward, every gradient.

Rungs 2 and 3 of the ladder over `specs.NETWORKS`, with random values in every parameter.
"""

import functools
import math

import numpy as np
import pytest
import wings
from specs import NETWORKS, OF_POSES, PRIMES, QUICK

from parity import reference
from parity import spec as specs
from parity.spec import SpecError
from parity.weights import table

# float64 shows what is computed, and so looks at every network; XLA takes seconds for each.
USUAL = [label for kind in OF_POSES if (label := kind().label) in NETWORKS]
IN_FLOAT32 = ("primes", "leaky bias detach", "three stem layers", "official", *USUAL)
CASES = [
    *((name, "float32") for name in IN_FLOAT32),
    *(pytest.param(name, "float64", marks=pytest.mark.float64) for name in NETWORKS),
]
CASES = wings.wide(
    CASES,
    lambda name, precision: name in (QUICK if precision == "float64" else ("leaky bias detach",)),
)
FORWARD = {"float32": 1e-5, "float64": 1e-13}
BACKWARD = {"float32": 1e-5, "float64": 1e-12}
BATCH = 2


def random_case(spec, seed=0):
    """Weights, images and labels with a random value in every place, all float32 numbers."""
    draw = np.random.default_rng(seed)
    arrays = {
        name: (draw.standard_normal(row.shape) * (row.std or 0.3) * 3).astype("float32")
        for name, row in table(spec).items()
    }
    images = draw.random((BATCH, *spec.image), dtype="float32")
    return arrays, images, draw.integers(spec.classes, size=BATCH)


@functools.cache
def traced(wing, name, precision):
    spec = NETWORKS[name]
    arrays, images, labels = random_case(spec)
    net = wing.CapsuleNetwork(spec, precision=precision, lean=False)
    wing.weights.from_numpy(net, arrays)
    return wing.tracing.trace(net, images.astype(precision), labels)


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_every_tensor_is_the_oracles(wing, name, precision):
    spec = NETWORKS[name]
    arrays, images, labels = random_case(spec)
    expected = reference.forward(spec, arrays, images, labels)
    values, _ = traced(wing, name, precision)
    assert [key for key in values if not key.startswith("parameter/")] == list(expected)
    for key, value in expected.items():
        assert values[key].dtype == precision
        assert wings.difference(values[key], value) < FORWARD[precision], key


@pytest.mark.float64
@pytest.mark.parametrize("name", wings.wide(NETWORKS, QUICK.__contains__))
def test_every_gradient_is_the_oracles(wing, name):
    """Along a random direction in each tensor: the oracle's derivative is a complex step."""
    spec, draw = NETWORKS[name], np.random.default_rng(1)
    arrays, images, labels = random_case(spec)
    _, gradients = traced(wing, name, "float64")

    def loss(name, x):
        """The oracle's loss as a function of one tapped tensor, or of one parameter."""
        changed = {**arrays, name: x} if name in arrays else arrays
        put = lambda key, value: x if key == name else value  # noqa: E731
        return reference.forward(spec, changed, images, labels, put)["loss"]

    inner = reference.forward(spec, arrays, images, labels)
    for key, gradient in gradients.items():
        name = key.removeprefix("parameter/")
        at = np.asarray(arrays[name] if name in arrays else inner[name])
        direction = draw.standard_normal(at.shape)
        slope = reference.derivative(lambda x, name=name: loss(name, x), at, direction)
        size = np.abs(gradient * direction).sum()  # what rounding is relative to in a sum
        apart = abs((gradient * direction).sum() - slope)
        assert apart <= BACKWARD["float64"] * max(size, 1e-300), (key, apart, size)


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_both_wings_have_the_same_gradients(both_wings, name, precision):
    (_, torch), (_, jax) = (traced(wing, name, precision) for wing in both_wings)
    assert list(torch) == list(jax)
    for key in torch:
        assert wings.difference(torch[key], jax[key]) < BACKWARD[precision], key


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 13, 11), "float32"), r"shape \(2, 13, 11\).*13, 11, 3"),
        (np.zeros((2, 11, 13, 3), "float32"), r"shape \(2, 11, 13, 3\).*13, 11, 3"),
        (np.zeros((2, 3, 13, 11), "float32"), r"shape \(2, 3, 13, 11\)"),
        (np.zeros((0, 13, 11, 3), "float32"), r"shape \(0, 13, 11, 3\)"),
        (np.zeros((2, 13, 11, 3), "uint8"), r"dtype uint8.*/ 255"),
        (np.zeros((2, 13, 11, 3), "int64"), "dtype int64"),
    ],
)
def test_images_of_a_wrong_shape_or_dtype_are_refused(wing, images, message):
    with pytest.raises(SpecError, match=message):
        wing.CapsuleNetwork(PRIMES)(images)


def test_a_seed_means_the_same_network_in_both_wings(both_wings):
    torch, jax = (wing.weights.to_numpy(wing.CapsuleNetwork(PRIMES, seed=7)) for wing in both_wings)
    for name, array in torch.items():
        np.testing.assert_array_equal(array, jax[name], name)


@wings.jax_slow
def test_prediction_is_the_longest_capsule(wing):
    net = wing.CapsuleNetwork(PRIMES, seed=3)
    images = np.random.default_rng(0).random((7, *PRIMES.image), dtype="float32")
    poses = wings.numpy(net(images))
    longest = np.linalg.norm(poses, axis=-1).argmax(-1)
    np.testing.assert_array_equal(wings.numpy(net.predict(images)), longest)


def test_a_reconstruction_sees_the_labels_capsule_alone(wing):
    net = wing.CapsuleNetwork(PRIMES, seed=3)
    poses = np.random.default_rng(0).standard_normal((3, 3, 5)).astype("float32")
    labels = np.array([2, 0, 1])
    others = poses.copy()
    others[np.arange(3)[:, None], (labels[:, None] + [1, 2]) % 3] = 9.0
    first, second = (
        wings.numpy(net.reconstruct(wings.array(wing, each), labels)) for each in (poses, others)
    )
    np.testing.assert_array_equal(first, second)
    assert first.shape == (3, *PRIMES.image)


def test_a_network_without_decoder_says_so(wing):
    net = wing.CapsuleNetwork(NETWORKS["no decoder"])
    with pytest.raises(SpecError, match="no decoder"):
        net.reconstruct(wings.array(wing, np.zeros((1, 3, 5), "float32")), np.array([0]))


def test_weights_travel_through_a_file(both_wings, tmp_path):
    """Saved by one wing and loaded by the other, a network gives the same poses."""
    images = np.random.default_rng(0).random((2, *PRIMES.image), dtype="float32")
    for n, (source, target) in enumerate([both_wings, both_wings[::-1]]):
        net = source.CapsuleNetwork(PRIMES, seed=5)
        source.weights.save(net, tmp_path / f"{n}.safetensors")
        again = target.weights.load(tmp_path / f"{n}.safetensors")
        a, b = (wings.numpy(each(images)) for each in (net, again))
        assert wings.difference(a, b) < FORWARD["float32"]


@pytest.mark.parametrize("name", ["small", pytest.param("efficient", marks=pytest.mark.slow)])
def test_a_layer_is_shown_on_one_line(wing, name):
    net = wing.networks.build(specs.preset(name))
    lines = str(net).splitlines()
    assert lines[0] == f"{type(net).__name__}("
    assert lines[1:-1] == [
        f"  ({part}): {getattr(net, part)!r}" for part in ("stem", "primary", "digit", "decoder")
    ]
    rows = net.spec.tensors()
    shape = "x".join(map(str, rows["digit.kernel"].shape))
    size = sum(math.prod(row.shape) for key, row in rows.items() if key.startswith("digit."))
    assert f"DigitCapsules(kernel {shape}" in lines[3]
    assert lines[3].endswith(f": {size:,})")
