"""Several classes in an image: both wings against the oracle, which is checked by hand.

Networks of `specs.NETWORKS`; three parts an image, of random classes of the network.
"""

import functools
from dataclasses import replace

import numpy as np
import pytest
import wings
from specs import KINDS, NETWORKS, PRIMES
from test_network import BACKWARD, FORWARD, random_case

from parity import reference
from parity.compare.subject import ragged
from parity.spec import SpecError, TrainingSpec

PRECISIONS = [
    pytest.param("float32", marks=pytest.mark.slow),
    pytest.param("float64", marks=pytest.mark.float64),
]

B, P = 2, 3
CLASSES = 5  # more than parts, so that some are absent
NAMES = ["primes", "leaky bias detach", "official", "no decoder", "another loss"]
SPECS = {name: replace(NETWORKS[name], classes=CLASSES) for name in NAMES}
# a network, and whether it reconstructs each part or the whole
CASES = wings.wide(
    [*((name, True) for name in NAMES[:4]), ("primes", False), ("another loss", False)],
    lambda name, apart: name == "primes" and apart,
)


def several(spec, batch=B, seed=1):
    """Classes [B, P], all different in an image, their 0/1 targets, and a random image of each."""
    draw = np.random.default_rng(seed)
    labels = np.array([draw.permutation(spec.classes)[:P] for _ in range(batch)])
    images = draw.random((batch, P, *spec.image), dtype="float32")
    return labels, np.eye(spec.classes, dtype="int64")[labels].sum(1), images


@functools.cache
def traced(wing, name, precision, apart):
    """A traced loss of random weights: with a reconstruction of each part, or of the whole."""
    spec = SPECS[name]
    arrays, images, _ = random_case(spec)
    labels, targets, parts = several(spec)
    net = wing.CapsuleNetwork(spec, precision=precision, lean=False)
    wing.weights.from_numpy(net, arrays)
    given = (labels, parts.astype(precision)) if apart else None
    return wing.tracing.trace(net, images.astype(precision), targets, given)


def expected(name, tap=reference.no_tap, apart=True, **changed):
    spec = SPECS[name]
    arrays, images, _ = random_case(spec)
    labels, targets, parts = several(spec)
    given = (labels, parts) if apart else None
    return reference.forward(spec, {**arrays, **changed}, images, targets, tap, given)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("name", "apart"), CASES)
def test_every_tensor_is_the_oracles(wing, name, apart, precision):
    values, _ = traced(wing, name, precision, apart)
    oracle = expected(name, apart=apart)
    assert [key for key in values if not key.startswith("parameter/")] == list(oracle)
    for key, value in oracle.items():
        assert wings.difference(values[key], value) < FORWARD[precision], key
    if "reconstruction" in oracle:
        shape = (B, P, *PRIMES.image) if apart else (B, *PRIMES.image)
        assert oracle["reconstruction"].shape == shape


@pytest.mark.float64
@pytest.mark.parametrize(("name", "apart"), CASES)
def test_every_gradient_is_the_oracles(wing, name, apart):
    draw = np.random.default_rng(2)
    arrays, _, _ = random_case(SPECS[name])
    _, gradients = traced(wing, name, "float64", apart)
    inner = expected(name, apart=apart)

    def loss(key, x):
        put = lambda tapped, value: x if tapped == key else value  # noqa: E731
        changed = {key: x} if key in arrays else {}
        return expected(name, put, apart, **changed)["loss"]

    for key, gradient in gradients.items():
        plain = key.removeprefix("parameter/")
        at = np.asarray(arrays[plain] if plain in arrays else inner[plain])
        direction = draw.standard_normal(at.shape)
        slope = reference.derivative(lambda x, k=plain: loss(k, x), at, direction)
        size = np.abs(gradient * direction).sum()
        apart_by = abs((gradient * direction).sum() - slope)
        assert apart_by <= BACKWARD["float64"] * max(size, 1e-300), (key, apart_by, size)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("name", "apart"), CASES)
def test_both_wings_have_the_same_gradients(both_wings, name, apart, precision):
    (_, torch), (_, jax) = (traced(wing, name, precision, apart) for wing in both_wings)
    assert list(torch) == list(jax)
    for key in torch:
        assert wings.difference(torch[key], jax[key]) < BACKWARD[precision], key


@pytest.mark.float64
@pytest.mark.skipif("torch" not in wings.NAMES, reason="a pass of JAX takes ten seconds for each")
@pytest.mark.parametrize("kind", wings.wide(KINDS, "self_routing".__eq__))
def test_every_tensor_of_each_kind_of_network_is_the_oracles(kind):
    """Each loss takes several classes; a decoder, where there is one, reconstructs each part."""
    wing, spec = wings.load("torch"), replace(KINDS[kind], classes=CLASSES)
    arrays, (labels, targets, parts) = ragged(spec, 3), several(spec)
    images = np.random.default_rng(0).random((B, *spec.image))
    given = None if spec.decoder is None else (labels, parts.astype("float64"))
    net = wing.build(spec, precision="float64", lean=False)
    wing.weights.from_numpy(net, arrays)
    values, _ = wing.tracing.trace(net, images, targets, given)
    oracle = reference.forward(spec, arrays, images, targets, parts=given, train=True)
    assert [key for key in values if not key.startswith("parameter/")] == list(oracle)
    for key, value in oracle.items():
        assert wings.difference(values[key], value) < FORWARD["float64"], key


# The oracle by hand.


def test_the_oracle_sums_the_errors_of_each_part_against_it_alone():
    spec = SPECS["primes"]
    arrays, images, _ = random_case(spec)
    labels, targets, parts = several(spec)
    seen = expected("primes")
    total = 0.0
    for p in range(P):
        alone = reference.forward(spec, arrays, images, labels[:, p])["reconstruction"]
        np.testing.assert_allclose(seen["reconstruction"][:, p], alone, rtol=1e-14)
        total += ((alone - parts[:, p]) ** 2).sum() / B
    np.testing.assert_allclose(seen["loss.reconstruction"], total, rtol=1e-13)
    margin = reference.margin(seen["lengths"], targets)
    np.testing.assert_allclose(seen["loss"], margin + 0.0005 * total, rtol=1e-13)


def test_one_part_is_the_label_of_its_picture():
    """A picture made of itself: the same loss as that of a label, but for the shape."""
    spec = SPECS["another loss"]
    arrays, images, labels = random_case(spec)
    plain = reference.forward(spec, arrays, images, labels)
    one_hot = np.eye(CLASSES)[labels]
    same = reference.forward(
        spec, arrays, images, one_hot, parts=(labels[:, None], images[:, None])
    )
    assert list(same) == list(plain)
    assert same["loss"] == plain["loss"]
    np.testing.assert_array_equal(same["reconstruction"][:, 0], plain["reconstruction"])


LENGTHS = [[0.1, 0.9, 0.5, 0.6], [0.3, 0.3, 0.2, 0.3], [0.0, 0.0, 0.0, 0.0]]
RIGHT = [
    ([[0, 1, 0, 1], [1, 1, 0, 0], [1, 1, 1, 0]], [True, True, True]),
    ([[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 1, 0]], [False, False, False]),
    ([[0, 1, 1, 1], [1, 1, 0, 1], [0, 0, 0, 0]], [True, True, True]),
    ([[0, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]], [True, True, True]),
    ([[0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]], [False, False, False]),
    ([1, 0, 0], [True, True, True]),
    ([3, 1, 3], [False, False, False]),
    ([[1, 1, 1, 1]] * 3, [True, True, True]),
]


@pytest.mark.parametrize(("targets", "right"), RIGHT)
def test_right_is_every_class_present_among_the_longest(wing, targets, right):
    """As many of them as are present; of equal lengths the first counts as longer."""
    assert reference.correct(LENGTHS, targets).tolist() == right
    lengths = wings.array(wing, np.array(LENGTHS, "float32"))
    found = wing.losses.correct_each(lengths, wings.array(wing, np.array(targets, "int32")))
    assert wings.numpy(found).tolist() == right


def test_one_class_is_right_where_its_capsule_is_the_longest():
    draw = np.random.default_rng(3)
    lengths, labels = draw.random((211, CLASSES)), draw.integers(CLASSES, size=211)
    longest = lengths.argmax(1) == labels
    assert 0 < longest.sum() < 211
    for targets in (labels, np.eye(CLASSES)[labels]):
        np.testing.assert_array_equal(reference.correct(lengths, targets), longest)


# The doors.


@wings.jax_slow
def test_a_prediction_of_several_is_of_the_longest_in_order(wing):
    net = wing.CapsuleNetwork(SPECS["primes"], seed=3)
    images = np.random.default_rng(0).random((7, *PRIMES.image), dtype="float32")
    lengths = np.linalg.norm(wings.numpy(net(images)), axis=-1)
    order = np.argsort(-lengths, axis=1, kind="stable")
    for count in range(2, CLASSES + 1):
        found = wings.numpy(net.predict(images, count))
        np.testing.assert_array_equal(found, order[:, :count])
    np.testing.assert_array_equal(wings.numpy(net.predict(images, count=1)), order[:, 0])
    for count in (0, CLASSES + 1):
        with pytest.raises(SpecError, match=f"count is {count}; expected 1 to {CLASSES}"):
            net.predict(images, count)


@wings.jax_slow
def test_a_reconstruction_for_each_of_several_labels(wing):
    net = wing.CapsuleNetwork(SPECS["primes"], seed=3)
    trainer = wing.training.Trainer(SPECS["primes"], TrainingSpec(seed=3))
    poses = np.random.default_rng(0).standard_normal((7, CLASSES, 5)).astype("float32")
    labels, _, _ = several(SPECS["primes"], 7)
    found = wings.numpy(net.reconstruct(wings.array(wing, poses), labels))
    assert found.shape == (7, P, *PRIMES.image)
    for p in range(P):
        alone = net.reconstruct(wings.array(wing, poses), labels[:, p])
        np.testing.assert_array_equal(found[:, p], wings.numpy(alone))
    assert wings.difference(trainer.reconstruct(poses, labels), found) < FORWARD["float32"]


@wings.jax_slow
def test_a_step_and_an_evaluation_measure_the_traced_loss(wing):
    """Weighted by image, right by the rule above, and the step moves the weights."""
    spec = SPECS["primes"]
    trainer = wing.training.Trainer(spec, TrainingSpec(seed=3, batch_size=7), lean=False)
    images = np.random.default_rng(4).random((7, *spec.image), dtype="float32")
    labels, targets, parts = several(spec, 7)
    weights = {name: a.astype("float64") for name, a in trainer.get_state()["weights"].items()}
    losses, right = [], []
    for n in range(7):
        here = slice(n, n + 1)
        seen = reference.forward(
            spec, weights, images[here], targets[here], parts=(labels[here], parts[here])
        )
        losses.append(seen["loss"])
        right.append(reference.correct(seen["lengths"], targets[here])[0])
    keep = np.array([1, 1, 0, 1, 0, 1, 1], "float32")
    found = trainer.evaluate(images, targets, keep, (labels, parts))
    assert found["loss"] == pytest.approx(float((losses * keep).sum()), rel=1e-5)
    assert found["correct"] == (np.array(right) * keep).sum()
    assert found["count"] == 5
    measured = trainer.step(images, targets, (labels, parts))
    assert measured["loss"] == pytest.approx(float(np.mean(losses)), rel=1e-5)
    assert measured["accuracy"] == pytest.approx(np.mean(right), rel=1e-6)
    changed = trainer.get_state()["weights"]
    assert all(
        (changed[name] != weights[name]).any() for name in ("decoder.2.kernel", "stem.0.kernel")
    )


@pytest.mark.float64
@pytest.mark.slow
def test_ten_losses_agree_in_float64(both_wings):
    spec = SPECS["leaky bias detach"]
    seen = []
    for wing in both_wings:
        training = TrainingSpec(precision="float64", learning_rate=2e-3, seed=3)
        trainer = wing.training.Trainer(spec, training, lean=False)
        draw = np.random.default_rng(5)
        losses = []
        for n in range(10):
            images = draw.random((7, *spec.image), dtype="float32")
            labels, targets, parts = several(spec, 7, n)
            losses.append(trainer.step(images, targets, (labels, parts))["loss"])
        seen.append(losses)
    np.testing.assert_allclose(*seen, rtol=1e-9)


def test_targets_and_parts_that_do_not_fit_are_refused(wing):
    spec = SPECS["primes"]
    trainer = wing.training.Trainer(spec, TrainingSpec(seed=3))
    images = np.zeros((2, *spec.image), "float32")
    labels, targets, parts = several(spec)
    for wrong in (targets[:, :1], targets[:, :-1], targets[:, :, None]):
        with pytest.raises(SpecError, match=r"targets have shape .*expected labels \(2,\)"):
            trainer.step(images, wrong)
    for bad in (
        (labels[:, 0], parts),
        (labels, parts[:, :1]),
        (labels, parts[:1]),
        (labels[:1], parts[:1]),
        (labels, parts[:, :, :-1]),
        (labels, parts[..., 0]),
    ):
        with pytest.raises(SpecError, match=r"parts have labels of shape .*2, any, 13, 11, 3"):
            trainer.step(images, targets, bad)
    with pytest.raises(SpecError, match="dtype uint8"):
        trainer.step(images, targets, (labels, parts.astype("uint8")))
