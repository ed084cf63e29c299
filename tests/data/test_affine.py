"""DeepCaps' augmentation and images at twice their size, against a slow definition of each."""

from dataclasses import replace

import numpy as np
import pytest

from parity import data
from parity.data import DataError, Split, affine, batches
from parity.data.crops import Cropped
from parity.data.sets.cifar10_64 import Doubled
from parity.spec import TrainingSpec, preset_card

N, H, W, C = 11, 13, 7, 2
IMAGES = np.random.default_rng(3).integers(0, 256, (N, H, W, C), np.uint8)
LABELS = np.arange(N) % 3
TRAINING = TrainingSpec(batch_size=5, augment="deepcaps", seed=2)


def whole(split: Split, training: TrainingSpec = TRAINING):
    return np.concatenate([batch.images for batch in batches.training(split, training, 0)])


def slow(image, row):
    """Keras' matrices, pixel by pixel."""
    turn = np.deg2rad(row["degrees"])
    cos, sin = np.cos(turn), np.sin(turn)
    rotate = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    shift = np.array([[1, 0, row["down"] * H], [0, 1, row["right"] * W], [0, 0, 1]])
    zoom = np.diag([*row["zoom"], 1])
    middle = np.array([[1, 0, H / 2 + 0.5], [0, 1, W / 2 + 0.5], [0, 0, 1]])
    matrix = middle @ rotate @ shift @ zoom @ np.linalg.inv(middle)
    made = np.zeros_like(image)
    for y, x in np.ndindex(H, W):
        place = (matrix @ [y, x, 1])[:2]
        row_, column = np.clip(place, 0, [H - 1, W - 1])
        top, left = min(int(row_), H - 2), min(int(column), W - 2)
        a, b = row_ - top, column - left
        upper = (1 - b) * image[top, left] + b * image[top, left + 1]
        lower = (1 - b) * image[top + 1, left] + b * image[top + 1, left + 1]
        made[y, x] = (1 - a) * upper + a * lower
    return made[:, ::-1] if row["mirrored"] else made


def test_each_pixel_is_where_keras_takes_it_from():
    rows = affine.draw(np.random.default_rng(0), N)
    rows["degrees"] *= 100  # what 0.1 degrees would hide
    images = (IMAGES / 255).astype(np.float32)
    expected = np.stack([slow(*pair) for pair in zip(images, rows, strict=True)])
    np.testing.assert_allclose(affine.warp(images, rows), expected, atol=1e-5)


def test_a_row_that_changes_nothing():
    rows = np.zeros(N, affine.ROWS)
    rows["zoom"] = 1
    images = (IMAGES / 255).astype(np.float32)
    np.testing.assert_array_equal(affine.warp(images, rows), images)
    rows["mirrored"] = True
    np.testing.assert_array_equal(affine.warp(images, rows), images[:, :, ::-1])


def test_an_image_gets_the_same_bytes_in_any_batch():
    split = Split(IMAGES, LABELS)
    rows = affine.draw(np.random.default_rng(1), N)
    images = (IMAGES / 255).astype(np.float32)
    for n in range(N):
        alone = affine.warp(images[n : n + 1], rows[n : n + 1])
        np.testing.assert_array_equal(alone[0], affine.warp(images, rows)[n])
    first, again = whole(split), whole(split)
    np.testing.assert_array_equal(first, again)
    assert (first >= 0).all()
    assert (first <= 1).all()


def test_doubled_images_lie_between_pixel_centres():
    split = Doubled(IMAGES, LABELS)
    assert split.shape == (2 * H, 2 * W, C)
    (batch,) = batches.evaluation(split, N)
    pixels = (IMAGES / 255).astype(np.float32)
    assert batch.images.dtype == np.float32
    np.testing.assert_array_equal(batch.images[:, 0, 0], pixels[:, 0, 0])
    between = (3 * pixels[:, 2] + pixels[:, 3]) / 4
    np.testing.assert_allclose(batch.images[:, 5, 0], between[:, 0], atol=1e-6)
    for augment in ("shift", "deepcaps"):
        made = whole(split, replace(TRAINING, augment=augment))
        assert made.shape[1:] == split.shape


def test_windows_have_an_augmentation_of_their_own():
    with pytest.raises(DataError, match="augment is 'deepcaps'; expected shift or efficient"):
        whole(Cropped(IMAGES, LABELS, (5, 5)))


@pytest.mark.parametrize("name", ["cifar10-64", "svhn-64"])
def test_data_sets_of_doubled_images(name, monkeypatch):
    module = data.registry._module(name.replace("-64", ""))
    small = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), np.uint8)
    split = Split(small, np.arange(30) % 10)
    plain = data.Dataset(module.DATASET.name, split, split, 10)
    monkeypatch.setattr(module, "load", lambda data_dir: plain)
    found = data.load(name)
    assert (found.name, found.train.shape, found.test.shape) == (name, (64, 64, 3), (64, 64, 3))
    np.testing.assert_array_equal(found.train.images, small)


def test_the_recipe_has_the_steps_of_an_epoch():
    for name, images in (("deepcaps", 50_000), ("deepcaps-32", 73_257), ("deepcaps-mnist", 60_000)):
        training = preset_card(name).training
        steps = images // training.batch_size
        assert (training.decay_steps, training.hard_step) == (10 * steps, 100 * steps)
    assert preset_card("deepcaps").recipes["svhn-64"]["decay_steps"] == 10 * (73_257 // 256)
