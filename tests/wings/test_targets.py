"""Targets that are no classes: refused in both wings, with one message, at every door."""

import functools
import importlib

import numpy as np
import pytest
import wings
from specs import PRIMES

from parity.spec import SpecError, TrainingSpec

B, J = 7, PRIMES.classes
LABELS = np.arange(B, dtype=np.int32) % J
HOT = np.eye(J, dtype=np.int32)[LABELS]
IMAGES = np.random.default_rng(3).random((B, *PRIMES.image), np.float32)
LENGTHS = np.random.default_rng(5).random((B, J), np.float32)

REFUSED = {  # J is 3
    "a class too many": (np.where(LABELS == 2, J, LABELS), r"targets\[2\] is 3; .* 3 classes$"),
    "counted from 1": (LABELS + 1, r"targets\[2\] is 3; expected 0 to 2, .*; subtract 1 if they"),
    "below 0": (LABELS - 1, r"targets\[0\] is -1; expected 0 to 2, as there are 3 classes$"),
    "0 in 32 bits": (LABELS + np.int64(2**40), rf"targets\[0\] is {2**40}; "),
    "whole, as floats": (LABELS.astype(np.float32), "targets have dtype float32; expected whole"),
    "between": (
        LABELS.astype(np.float32) + np.float32(0.3),
        "targets have dtype float32; expected whole numbers",
    ),
    "bool": (LABELS > 1, "targets have dtype bool; expected whole numbers"),
    "soft": (
        HOT.astype(np.float32) * np.float32(0.7),
        "dtype float32; .* probabilities are not taken",
    ),
    "0/1, as floats": (HOT.astype(np.float32), "targets have dtype float32; expected whole"),
    "0/1, as bool": (HOT > 0, "targets have dtype bool; expected whole"),
    "2 among 0/1": (HOT + HOT * (np.arange(J) == 1), r"targets\[1, 1\] is 2; expected zeros and"),
    "one for all": (LABELS[:1], r"targets have shape \(1,\); expected labels \(7,\)"),
    "too few": (LABELS[:-1], r"shape \(6,\); expected labels \(7,\), or zeros and ones \(7, 3\)"),
    "other classes": (HOT[:, :-1], r"shape \(7, 2\); .* zeros and ones \(7, 3\)"),
    "a column": (LABELS[:, None], r"shape \(7, 1\); expected labels"),
}


@functools.cache
def trainer(wing):
    return wing.training.Trainer(PRIMES, TrainingSpec(seed=3))


def own(wing, x: np.ndarray):
    """The wing's own array; JAX has none of 64 bits."""
    return x if x.dtype.itemsize == 8 else wings.array(wing, x)


DOORS = {
    "step": lambda wing, targets: trainer(wing).step(IMAGES, targets),
    "evaluate": lambda wing, targets: trainer(wing).evaluate(
        IMAGES, targets, np.ones(B, np.float32)
    ),
    "loss": lambda wing, targets: trainer(wing).net.loss(IMAGES, targets),
    "loss of its own": lambda wing, targets: trainer(wing).net.loss(IMAGES, own(wing, targets)),
    "margin": lambda wing, targets: wing.losses.margin(
        wings.array(wing, LENGTHS), own(wing, targets)
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_targets_that_are_no_classes_are_refused(name, wing):
    targets, message = REFUSED[name]
    said = set()
    for door in DOORS.values():
        with pytest.raises(SpecError, match=message) as caught:
            door(wing, targets)
        said.add(str(caught.value))
    assert len(said) == 1


@pytest.mark.parametrize("name", REFUSED)
def test_both_wings_say_the_same(name, both_wings):
    said = []
    for wing in both_wings:
        with pytest.raises(SpecError) as caught:
            DOORS["step"](wing, REFUSED[name][0])
        said.append(str(caught.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, list])
@pytest.mark.parametrize("targets", [LABELS, HOT], ids=["labels", "0/1"])
def test_whole_numbers_of_any_kind_are_targets(dtype, targets, wing):
    given = targets.tolist() if dtype is list else targets.astype(dtype)
    weights = np.ones(B, np.float32)
    expected = trainer(wing).evaluate(IMAGES, targets, weights)
    assert trainer(wing).evaluate(IMAGES, given, weights) == expected


LABELLED = {
    "a class too many": (np.array([0, 1, J]), r"\[2\] is 3; expected 0 to 2"),
    "below 0": (np.array([0, -1, 2]), r"\[1\] is -1; expected 0 to 2"),
    "floats": (np.array([0, 1.0, 2]), "have dtype float64; expected whole numbers"),
}


@pytest.mark.parametrize("name", LABELLED)
def test_other_labels_that_are_no_classes_are_refused(name, wing):
    labels, message = LABELLED[name]
    poses = trainer(wing).poses(IMAGES[:3])
    with pytest.raises(SpecError, match=f"labels{message}|labels {message}"):
        trainer(wing).reconstruct(poses, labels)
    parts = (np.stack([labels] * 2, 1), np.stack([IMAGES[:3]] * 2, 1))
    at = message.replace(r"\]", r", 0\]")
    with pytest.raises(SpecError, match=f"labels of parts ?{at}"):
        trainer(wing).step(IMAGES[:3], HOT[:3], parts)


def test_what_is_transformed_is_known_by_its_dtype(wing):
    """Inside vmap, as inside jit, targets have no values yet."""
    module = importlib.import_module("torch.func" if wing.__name__ == "torch_caps" else "jax")

    def each(lengths_J, target):
        return wing.losses.margin(lengths_J[None], target[None])

    lengths, labels = wings.array(wing, LENGTHS), wings.array(wing, LABELS)
    found = wings.numpy(module.vmap(each)(lengths, labels))
    expected = [float(wings.numpy(each(lengths[n], labels[n]))) for n in range(B)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(SpecError, match="targets have dtype float32"):
        module.vmap(each)(lengths, wings.array(wing, LABELS.astype(np.float32)))
