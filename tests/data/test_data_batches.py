"""Order and augmentation of batches: exact, repeatable, and never in evaluation."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from parity.data import DataError, Split, batches
from parity.data.windows import cut, translate
from parity.spec import TrainingSpec
from parity.weights import generator

N, H, W, C = 53, 11, 7, 3
PLAIN = TrainingSpec(batch_size=5, shift=0, seed=3)
SHIFTED = replace(PLAIN, shift=2)


def numbered(count: int = N, dtype: type = np.uint8) -> Split:
    """Images without a zero, each with labels that number them."""
    images = np.random.default_rng(7).integers(1, 256, (count, H, W, C)).astype(np.uint8)
    if dtype is np.float32:
        images = images / np.float32(255)
    return Split(images, np.arange(count))


def joined(split: Split, training: TrainingSpec, epoch: int = 0, start: int = 0):
    made = list(batches.training(split, training, epoch, start))
    return np.concatenate([b.images for b in made]), np.concatenate([b.labels for b in made])


def slowly_moved(image: np.ndarray, down: int, right: int) -> np.ndarray:
    moved = np.zeros_like(image)
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            if 0 <= row - down < image.shape[0] and 0 <= column - right < image.shape[1]:
                moved[row, column] = image[row - down, column - right]
    return moved


@pytest.mark.parametrize("size", [1, 5, 7, 53])
def test_every_training_image_comes_at_most_once_and_the_rest_is_dropped(size):
    training = replace(PLAIN, batch_size=size)
    made = list(batches.training(numbered(), training, 0))
    assert len(made) == batches.per_epoch(numbered(), training) == N // size
    labels = np.concatenate([batch.labels for batch in made])
    assert len(set(labels)) == len(labels) == N // size * size
    assert all(batch.weights.tolist() == [1] * size for batch in made)
    assert all(batch.images.shape == (size, H, W, C) for batch in made)


def test_dtypes_and_range():
    for split in (numbered(), numbered(dtype=np.float32)):
        for made in (batches.training(split, SHIFTED, 0), batches.evaluation(split, 5)):
            batch = next(made)
            assert (batch.images.dtype, batch.labels.dtype) == (np.float32, np.int64)
            assert batch.weights.dtype == np.float32
            assert batch.images.min() >= 0
            assert 0.99 < batch.images.max() <= 1
            assert batch.images.flags.c_contiguous


def test_every_byte_becomes_its_255th():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    (batch,) = batches.evaluation(Split(images, np.zeros(1, int)), 1)
    expected = (np.arange(256) / 255).astype(np.float32)
    np.testing.assert_array_equal(batch.images.reshape(-1), expected)


def test_order_differs_between_epochs_and_seeds():
    orders = [
        tuple(joined(numbered(), replace(PLAIN, seed=seed), epoch)[1])
        for seed in (0, 1, 2) for epoch in (0, 1, 2)
    ]  # fmt: skip
    assert len(set(orders)) == 9
    assert tuple(range(50)) not in orders


def test_shifts_differ_between_epochs_seeds_and_images():
    split = Split(np.full((N, H, W, 1), 255, np.uint8), np.zeros(N, int))
    made = {
        joined(split, replace(SHIFTED, seed=seed), epoch)[0].tobytes()
        for seed in (0, 1) for epoch in (0, 1)
    }  # fmt: skip
    assert len(made) == 4
    images, _ = joined(split, SHIFTED)
    assert len({image.tobytes() for image in images}) > 15


def test_the_same_bytes_on_repeat():
    for first, second in zip(
        batches.training(numbered(), SHIFTED, 4),
        batches.training(numbered(), SHIFTED, 4),
        strict=True,
    ):
        assert first.images.tobytes() == second.images.tobytes()
        assert first.labels.tobytes() == second.labels.tobytes()


@pytest.mark.parametrize("start", [0, 1, 3, 9, 10])
def test_starting_at_a_batch_equals_dropping_those_before_it(start):
    whole = list(batches.training(numbered(), SHIFTED, 2))
    rest = list(batches.training(numbered(), SHIFTED, 2, start))
    assert len(whole) == 10
    assert len(rest) == 10 - start
    for expected, found in zip(whole[start:], rest, strict=True):
        assert expected.images.tobytes() == found.images.tobytes()
        assert expected.labels.tobytes() == found.labels.tobytes()


def test_the_epoch_does_not_depend_on_the_batch_size():
    fives, sevens = (joined(numbered(), replace(SHIFTED, batch_size=size)) for size in (5, 7))
    np.testing.assert_array_equal(fives[1][:49], sevens[1])
    np.testing.assert_array_equal(fives[0][:49], sevens[0])


def test_the_shift_belongs_to_the_place_and_not_to_the_image():
    """Whatever image the order puts at a place of the epoch is moved by that place's shift."""
    split = numbered()
    drawn = split.draw(generator(SHIFTED.seed, "augment/6"), SHIFTED.shift)
    images, labels = joined(split, SHIFTED, epoch=6)
    for image, label, offset in zip(images, labels, drawn, strict=False):
        expected = slowly_moved(split.images[label], *offset) / np.float32(255)
        np.testing.assert_array_equal(image, expected)


def test_order_and_shifts_are_pinned():
    """A NumPy that drew other numbers would break every resume: this says so first."""
    images, labels = joined(numbered(), SHIFTED, epoch=1)
    assert labels[:10].tolist() == ORDER
    assert hashlib.sha256((images * 255).round().astype(np.uint8)).hexdigest()[:16] == PIXELS


ORDER = [34, 14, 28, 17, 39, 35, 32, 8, 42, 30]
PIXELS = "39da78e64aeb49f8"


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_shifted_images_equal_a_slow_shift_by_every_offset_in_range(shift):
    training, seen = replace(PLAIN, shift=shift), set()
    split = numbered()
    moves = {
        (down, right): [slowly_moved(image, down, right) for image in split.images]
        for down in range(-shift - 1, shift + 2) for right in range(-shift - 1, shift + 2)
    }  # fmt: skip
    for epoch in range(8):
        images, labels = joined(split, training, epoch)
        images = (images * 255).round().astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            (fits,) = [m for m, all_ in moves.items() if np.array_equal(all_[label], image)]
            seen.add(fits)
    span = range(-shift, shift + 1)
    assert seen == {(down, right) for down in span for right in span}


def test_shifts_are_uniform():
    split = Split(np.ones((20011, 5, 5, 1), np.uint8), np.zeros(20011, int))
    drawn = split.draw(np.random.default_rng(5), 2)
    counts = np.unique(drawn, axis=0, return_counts=True)[1]
    assert drawn.shape == (20011, 2)
    assert len(counts) == 25
    assert np.abs(counts - 800).max() < 150  # 5.3 standard deviations


@pytest.mark.parametrize("offset", [(0, 0), (2, 0), (0, -3), (-10, 6), (10, -6), (11, 0), (0, 7)])
def test_translate_equals_the_slow_one_at_the_extremes(offset):
    images = numbered(2).images
    moved = translate(images, np.array([offset, (1, -1)]))
    assert moved.dtype == np.uint8
    np.testing.assert_array_equal(moved[0], slowly_moved(images[0], *offset))
    np.testing.assert_array_equal(moved[1], slowly_moved(images[1], 1, -1))


def test_what_moves_in_is_zero():
    moved = translate(numbered(1).images, np.array([[2, -1]]))
    assert not moved[:, :2].any()
    assert not moved[:, :, -1:].any()
    assert moved[:, 2:, :-1].all()


def test_cut_takes_each_image_at_its_own_place():
    images, corners = numbered(4).images, np.array([(0, 0), (6, 2), (3, 1), (0, 2)])
    found = cut(images, corners, 5, 5)
    for image, (top, left), window in zip(images, corners, found, strict=True):
        np.testing.assert_array_equal(window, image[top : top + 5, left : left + 5])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_no_shift_leaves_every_image_as_it_is(dtype):
    split = numbered(dtype=dtype)
    images, labels = joined(split, PLAIN)
    scale = 255 if dtype is np.uint8 else 1
    np.testing.assert_array_equal(images, split.images[labels] / np.float32(scale))


@pytest.mark.parametrize("size", [1, 5, 7, 53, 59])
def test_evaluation_is_in_order_and_padded_with_weight_0(size):
    made = list(batches.evaluation(numbered(), size))
    assert len(made) == -(-N // size)
    for batch in made:
        assert batch.images.shape == (size, H, W, C)
        assert batch.labels.shape == batch.weights.shape == (size,)
    weights = np.concatenate([batch.weights for batch in made])
    assert weights.tolist() == [1] * N + [0] * (len(weights) - N)
    labels = np.concatenate([batch.labels for batch in made])
    assert labels[:N].tolist() == list(range(N))
    assert not labels[N:].any()
    assert not np.concatenate([batch.images for batch in made])[N:].any()


def test_batches_do_not_share_memory_with_the_data_set():
    for split in (numbered(), numbered(dtype=np.float32)):
        before = split.images.copy()
        for batch in (*batches.evaluation(split, 53), *batches.training(split, PLAIN, 0)):
            batch.images[:] = 0.5
            batch.labels[:] = 0
        np.testing.assert_array_equal(split.images, before)
        assert split.labels.tolist() == list(range(N))


def test_a_batch_larger_than_the_data_is_refused():
    training = replace(PLAIN, batch_size=54)
    for attempt in (batches.per_epoch, lambda split, spec: batches.training(split, spec, 0)):
        with pytest.raises(DataError, match=r"a batch of 54 is larger than the 53 .* at most 53"):
            attempt(numbered(), training)


@pytest.mark.parametrize("start", [-1, 11])
def test_a_start_outside_the_epoch_is_refused_at_once(start):
    with pytest.raises(DataError, match=f"batch {start} of epoch 6 .* 10 batches of 5 in 53"):
        batches.training(numbered(), PLAIN, 6, start)


@pytest.mark.parametrize("size", [0, -3])
def test_an_evaluation_without_a_batch_size_is_refused(size):
    with pytest.raises(DataError, match=f"batch size is {size}; expected"):
        batches.evaluation(numbered(), size)


def test_a_shift_out_of_the_picture_is_refused():
    with pytest.raises(DataError, match=r"up to 7 pixels .* 11x7 .* below 7"):
        batches.training(numbered(), replace(PLAIN, shift=7), 0)
    list(batches.training(numbered(), replace(PLAIN, shift=6), 0))
