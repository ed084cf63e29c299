"""MultiMNIST: pairs of digits of different classes, against a slow and obvious making of them."""

import os
from collections import Counter

import numpy as np
import pytest

from parity.data import DataError, batches, load
from parity.data.sets.multi_mnist import Pairs
from parity.spec import TrainingSpec
from parity.weights import generator

N, H, W = 61, 7, 5
TRAINING = TrainingSpec(batch_size=7, shift=2, seed=5)


def pairs(name: str = "digits") -> Pairs:
    random = np.random.default_rng(1)
    images = random.integers(1, 256, (N, H, W, 1)).astype(np.uint8)
    return Pairs(images, random.integers(0, 10, N), name)


def slowly_placed(image: np.ndarray, down: int, right: int) -> np.ndarray:
    made = np.zeros((H + 8, W + 8, 1), np.uint16)
    made[4 + down : 4 + down + H, 4 + right : 4 + right + W] = image
    return made


def whole_epoch(split: Pairs, epoch: int = 0) -> list:
    return list(batches.training(split, TRAINING, epoch))


def test_each_picture_is_the_sum_of_its_two_digits_cut_at_255():
    split = pairs()
    order = generator(5, "order/3").permutation(N)
    drawn = split.draw(generator(5, "augment/3"), 0)
    made = whole_epoch(split, 3)
    images = np.concatenate([batch.images for batch in made])
    parts = np.concatenate([batch.parts for batch in made])
    digits = np.concatenate([batch.digits for batch in made])
    assert images.shape == (56, H + 8, W + 8, 1)
    assert parts.shape == (56, 2, H + 8, W + 8, 1)
    cut = 0
    for place in range(56):
        first = slowly_placed(split.images[order[place]], *drawn[place, 1:3])
        np.testing.assert_array_equal(parts[place, 0], first / np.float32(255))
        assert digits[place, 0] == split.labels[order[place]]
        candidates = [
            slowly_placed(split.images[n], *drawn[place, 3:5])
            for n in range(N)
            if split.labels[n] == digits[place, 1]
        ]
        (second,) = [
            each for each in candidates
            if np.array_equal(each / np.float32(255), parts[place, 1])
        ]  # fmt: skip
        merged = np.minimum(first + second, 255)
        cut += int((first + second > 255).any())
        np.testing.assert_array_equal(images[place], merged.astype(np.uint8) / np.float32(255))
    assert cut > 10


def test_labels_are_the_two_classes():
    for batch in whole_epoch(pairs()):
        assert batch.labels.dtype == batch.digits.dtype == np.int64
        assert batch.labels.shape == (7, 10)
        assert batch.labels.sum(1).tolist() == [2] * 7
        for row, digits in zip(batch.labels, batch.digits, strict=True):
            assert row.nonzero()[0].tolist() == sorted(digits)
        assert (batch.images.dtype, batch.parts.dtype) == (np.float32, np.float32)


def test_partners_are_uniform_over_every_digit_of_another_class():
    split = pairs()
    seen = {index: Counter() for index in range(N)}
    for numbers in range(5 * N):
        partners = split._partners(np.arange(N), np.full(N, numbers))
        for index, partner in enumerate(partners):
            seen[index][partner] += 1
    for index in range(N):
        others = (split.labels != split.labels[index]).nonzero()[0]
        assert set(seen[index]) == set(others)
        assert max(seen[index].values()) - min(seen[index].values()) <= 1


def test_shifts_reach_4_pixels_whatever_the_run_says():
    drawn = pairs().draw(np.random.default_rng(0), shift=1)
    assert drawn.shape == (N, 5)
    assert set(drawn[:, 1:].flat) == set(range(-4, 5))


def test_the_size_is_the_epoch_and_every_digit_comes_once():
    split = pairs()
    assert len(split) == N
    assert split.shape == (H + 8, W + 8, 1)
    firsts = np.concatenate([batch.parts[:, 0] for batch in whole_epoch(split)])
    assert len({np.trim_zeros(part.ravel()).tobytes() for part in firsts}) == 56


def test_epochs_differ_and_repeat_and_resume():
    split = pairs()
    for epoch in (0, 1):
        whole, again = whole_epoch(split, epoch), whole_epoch(pairs("another name"), epoch)
        rest = list(batches.training(split, TRAINING, epoch, 3))
        for expected, found in zip(whole[3:], rest, strict=True):
            assert expected.images.tobytes() == found.images.tobytes()
            assert expected.parts.tobytes() == found.parts.tobytes()
        for expected, found in zip(whole, again, strict=True):
            assert expected.images.tobytes() == found.images.tobytes()
    pictures = {b.images.tobytes() for epoch in (0, 1, 2) for b in whole_epoch(split, epoch)}
    assert len(pictures) == 3 * 8


def test_test_pairs_are_the_same_in_every_run_and_padded_with_weight_0():
    sizes = {}
    for size in (7, 61, 64):
        made = list(batches.evaluation(pairs(), size))
        assert all(batch.parts.shape[:2] == (size, 2) for batch in made)
        weights = np.concatenate([batch.weights for batch in made])
        assert weights.tolist() == [1] * N + [0] * (len(weights) - N)
        labels = np.concatenate([batch.labels for batch in made])
        assert labels[:N].sum(1).tolist() == [2] * N
        assert not labels[N:].any()
        sizes[size] = np.concatenate([batch.images for batch in made])[:N].tobytes()
    assert len(set(sizes.values())) == 1
    (other,) = batches.evaluation(pairs("others"), 61)
    assert other.images.tobytes() not in sizes.values()


def test_one_class_alone_is_refused():
    with pytest.raises(DataError, match="mine: all digits are of one class; expected at least two"):
        Pairs(np.ones((3, 5, 7, 1), np.uint8), np.full(3, 4), "mine")


@pytest.mark.data
def test_from_the_real_digits():
    found = load("multi-mnist", os.environ["TWINCAPS_DATA"])
    assert found.train.shape == found.test.shape == (36, 36, 1)
    assert (len(found.train), len(found.test), found.classes) == (60_000, 10_000, 10)
    batch = next(batches.training(found.train, TrainingSpec(), 0))
    assert batch.images.shape == (128, 36, 36, 1)
    assert (batch.digits[:, 0] != batch.digits[:, 1]).all()
    assert len(list(batches.evaluation(found.test, 128))) == 79
