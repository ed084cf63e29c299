"""The augmentations of Efficient-CapsNet: what they compute, and evaluation without them."""

import hashlib
from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest

from parity import data, loop
from parity.data import DataError, Split, batches, distortion, lighting
from parity.data.crops import Cropped
from parity.data.sets.affnist import placed
from parity.data.sets.multi_mnist import Pairs
from parity.spec import Conv, NetworkSpec, Primary, TrainingSpec, check_images
from parity.weights import generator

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "efficient_augment.npz"))
N, H, W, C = 53, 29, 23, 3
PLAIN = TrainingSpec(batch_size=5, shift=0, seed=3)
TRAINING = replace(PLAIN, augment="efficient")


SPEC = NetworkSpec(
    image=(H, W, C),
    stem=(Conv(5, 3, 2),),
    primary=Primary(types=2, size=3, kernel=5),
    decoder=(7,),
)


def pictures(count: int = N, channels: int = C) -> np.ndarray:
    """Noise with a border of its own on each side: 5 above, 2 below, 3 at the left, 7 right."""
    images = np.zeros((count, H, W, channels), np.uint8)
    inner = np.random.default_rng(7).integers(1, 256, (count, 22, 13, channels))
    images[:, 5:27, 3:16] = inner
    return images


LABELS = np.random.default_rng(1).integers(0, 10, N)
KINDS = {
    "plain": Split(pictures(), LABELS),
    "windows": Cropped(pictures(), LABELS, (19, 17)),
    "pairs": Pairs(pictures(channels=1), LABELS, "pairs/train"),
}


def whole(split: Split, training: TrainingSpec = TRAINING, epoch: int = 0, start: int = 0):
    made = batches.training(split, training, epoch, start)
    return np.concatenate([batch.images for batch in made])


@pytest.mark.parametrize("name", [name for name in GOLDEN if name != "image"])
def test_the_authors_numbers(name):
    """Rotated by OpenCV, squeezed by TensorFlow: see golden/README.md."""
    image = GOLDEN["image"][None, ..., None]
    kind, *numbers = name.split(".")
    function = {"rotated": distortion.rotate, "squeezed": distortion.squeeze}[kind]
    found = function(image, *(np.array([int(each)], np.int8) for each in numbers))
    np.testing.assert_allclose(
        found[0, ..., 0], GOLDEN[name], rtol=0, atol=5e-6 if kind == "squeezed" else 1e-7
    )


@pytest.mark.parametrize("degrees", [-30, -11, 1, 29])
def test_turning_goes_counter_clockwise_about_the_middle(degrees):
    """A dot lands, within what OpenCV rounds, where its angle and distance say."""
    image = np.zeros((1, H, W, 1), np.float32)
    image[0, 6, 15] = 1
    made = distortion.rotate(image, np.array([degrees], np.int8))[0, ..., 0]
    down, right = (np.indices(made.shape) * made).sum((1, 2)) / made.sum()
    turn = np.deg2rad(degrees)
    x, y = 15 - W / 2, 6 - H / 2
    assert right == pytest.approx(np.cos(turn) * x + np.sin(turn) * y + W / 2, abs=0.2)
    assert down == pytest.approx(-np.sin(turn) * x + np.cos(turn) * y + H / 2, abs=0.2)


def test_shifts_are_shares_of_the_room_and_never_lose_ink():
    image = pictures(1) / np.float32(255)
    for share, down, right in (
        *((-0.9999, -5, -3), (-0.5, -3, -2), (-1e-9, -1, -1)),
        *((0.0, 0, 0), (0.3, 0, 2), (0.5, 1, 4), (0.9999, 2, 7)),
    ):
        found = distortion.shift(image, *np.full((2, 1), share))
        np.testing.assert_array_equal(found, np.roll(image, (down, right), (1, 2)))
    blank = np.zeros_like(image)
    np.testing.assert_array_equal(distortion.shift(blank, *np.full((2, 1), 0.9)), blank)


def test_each_image_is_turned_then_shifted_then_squeezed_then_erased():
    """A batch is what its images are alone; the order of the four is the authors'."""
    images = pictures() / np.float32(255)
    rows = distortion.draw(np.random.default_rng(2), N, H, W)
    found = distortion.distort(images, rows)
    assert found.dtype == np.float32
    for image, row, made in zip(images, rows[:, None], found, strict=True):
        image = distortion.rotate(image[None], row["angle"])
        image = distortion.shift(image, row["down"], row["right"])
        image = distortion.squeeze(image, row["narrower"], row["offset"])
        top, left = row["patch"][0]
        image[:, top : top + 4, left : left + 4] = 0
        assert made.tobytes() == image.tobytes()


def test_the_draws_reach_what_the_authors_reach():
    rows = distortion.draw(np.random.default_rng(0), 100_000, 28, 28)
    assert set(rows["angle"]) == set(range(-29, 30))
    still = 0.5 + 0.5 * 0.0805  # a turn by less than a degree is none
    assert (rows["angle"] == 0).mean() == pytest.approx(still, abs=0.01)
    for axis in ("down", "right"):
        assert np.abs(rows[axis]).max() == 0.9999
        assert (rows[axis] < 0).mean() == pytest.approx(0.5, abs=0.01)
        assert rows[axis].std() == pytest.approx(0.33, abs=0.01)
    assert set(rows["narrower"]) == set(range(1, 8))
    assert (rows["narrower"] == 1).mean() == pytest.approx(0.335, abs=0.01)  # |N| below 1/7
    assert set(rows["offset"]) == {0, 1}
    assert rows["offset"].mean() == pytest.approx(0.13, abs=0.01)  # |N| above 1/2
    assert [set(each) for each in rows["patch"].T] == [set(range(4, 23))] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_the_same_whatever_the_batch_and_the_resume(kind):
    split = KINDS[kind]
    fives = whole(split)
    for size in (1, 7, 16, 53):
        found = whole(split, replace(TRAINING, batch_size=size))
        np.testing.assert_array_equal(found[:50], fives[: len(found)])
    np.testing.assert_array_equal(whole(split, start=7), fives[35:])
    [first, *_] = batches.training(split, TRAINING, 0, rows=slice(2, 4))
    np.testing.assert_array_equal(first.images, fives[2:4])
    made = {
        whole(split, replace(TRAINING, seed=seed), epoch).tobytes()
        for seed in (3, 4) for epoch in (0, 1)
    }  # fmt: skip
    assert len(made) == 4


def test_the_draws_are_pinned():
    """A NumPy that drew other numbers would break every resume: this says so first."""
    found = hashlib.sha256(whole(KINDS["plain"], epoch=2).tobytes()).hexdigest()[:16]
    assert found == "fb678be3461e0946"


def test_augmented_images_leave_0_to_1_and_are_not_clipped():
    for kind in ("plain", "windows"):
        images = whole(KINDS[kind])
        assert images.dtype == np.float32
        assert images.min() < -0.05
        assert images.max() > 1.05
        assert np.isfinite(images).all()
    check_images(whole(KINDS["plain"]), SPEC)


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_never_sees_them(kind):
    """The mistake: validation and test images augmented like those of training."""
    split = KINDS[kind]
    for training in (PLAIN, TRAINING):
        made = batches.evaluation(batches.augmented(split, training), 7)
        for found, expected in zip(made, batches.evaluation(split, 7), strict=True):
            assert found.images.tobytes() == expected.images.tobytes()
            np.testing.assert_array_equal(found.labels, expected.labels)


def test_a_training_augments_what_it_trains_on_alone():
    """Through the loop, with images held out: training images move, the others never do."""
    shown = {"step": [], "evaluate": []}

    class Trainer(fakes.Trainer):
        def step(self, images, targets, parts=None):
            shown["step"].append(images)
            return super().step(images, targets, parts)

        def evaluate(self, images, targets, weights_B, parts=None):
            shown["evaluate"].append(images[weights_B > 0])
            return super().evaluate(images, targets, weights_B, parts)

    digits = data.load("mnist-mini").train
    few = digits.images[:60], digits.labels[:60]
    dataset = data.from_arrays(*few, *few, classes=10)
    training = replace(
        fakes.TRAINING, epochs=1, learning_rate=1e-3, augment="efficient", validation=11
    )
    loop.train(Trainer(fakes.PRESET.network, training), dataset, progress=False)
    known = {image.tobytes() for image in few[0] / np.float32(255)}
    for name, seen in shown.items():
        images = np.concatenate(seen)
        assert len(images) == {"step": 48, "evaluate": 71}[name]
        assert {image.tobytes() in known for image in images} == {name == "evaluate"}


@pytest.mark.slow
def test_the_trainers_take_them(wing):
    trainer = wing.Trainer(SPEC, TRAINING)
    for _, batch in zip(range(2), batches.training(KINDS["plain"], TRAINING, 0), strict=False):
        assert np.isfinite(trainer.step(batch.images, batch.labels)["loss"])


def test_what_has_no_room_or_its_own_augmentation_is_refused():
    small = Split(np.zeros((7, 11, 9, 1), np.uint8), np.zeros(7, int))
    with pytest.raises(DataError, match=r"images are 11x9; expected at least 10x10"):
        batches.training(small, TRAINING, 0)
    for attempt in (batches.per_epoch, lambda split, spec: batches.training(split, spec, 0)):
        with pytest.raises(DataError, match=r"augment is 'efficient'; expected shift, as these"):
            attempt(placed(KINDS["plain"]), TRAINING)


def test_toys_are_lit_as_if_they_were_standardised():
    """Brightness in units of a channel's deviation, then contrast about its mean in the image."""
    images = pictures()
    images[..., 1] //= 3
    split = Cropped(images, LABELS, (19, 17), augment="efficient")
    deviations = (images / 255.0).std((0, 1, 2))
    np.testing.assert_allclose(lighting.deviations(images), deviations, rtol=1e-12)
    drawn = split.draw(np.random.default_rng(4), 0)
    found = split.batch(np.arange(N), drawn).images
    for image, row, made in zip(images, drawn, found, strict=True):
        top, left = row["corner"]
        standard = image[top : top + 19, left : left + 17] / 255.0 / deviations + row["brightness"]
        mean = standard.mean((0, 1))
        expected = ((standard - mean) * row["contrast"] + mean) * deviations
        np.testing.assert_allclose(made, expected, rtol=0, atol=1e-6)


def test_lighting_is_of_the_whole_image_before_it_is_cut():
    """As TensorFlow's random_brightness and random_contrast of the released code of EM routing."""
    images = pictures()
    split = Cropped(images, LABELS, (19, 17), augment="lighting")
    drawn = split.draw(np.random.default_rng(4), 0)
    found = split.batch(np.arange(N), drawn).images
    for image, row, made in zip(images, drawn, found, strict=True):
        bright = image / 255.0 + row["brightness"]
        mean = bright.mean((0, 1))
        top, left = row["corner"]
        expected = ((bright - mean) * row["contrast"] + mean)[top : top + 19, left : left + 17]
        np.testing.assert_allclose(made, expected, rtol=0, atol=1e-6)
    middle = images[:, (images.shape[1] - 19) // 2 :, (images.shape[2] - 17) // 2 :][:, :19, :17]
    np.testing.assert_array_equal(split.batch(np.arange(N)).images, middle / np.float32(255))


@pytest.mark.parametrize(
    ("kind", "brightness", "contrast"),
    [("efficient", (-2, 2), (0.5, 1.5)), ("lighting", (-63 / 255, 63 / 255), (0.2, 1.8))],
)
def test_light_is_drawn_in_the_ranges_of_the_authors(kind, brightness, contrast):
    many = lighting.draw(np.random.default_rng(0), 10_000, kind)
    for numbers, expected in zip(many, (brightness, contrast), strict=True):
        assert (numbers.min(), numbers.max()) == pytest.approx(expected, abs=2e-3)


def test_pairs_reach_6_pixels_and_may_be_of_one_class():
    split = batches.augmented(KINDS["pairs"], TRAINING)
    assert isinstance(split, Pairs)
    drawn = split.draw(generator(0, "x"), 1)
    assert set(drawn[:, 1:].flat) == set(range(-6, 7))
    np.testing.assert_array_equal(split.fixed, KINDS["pairs"].fixed)
    found = split.batch(np.arange(N), drawn)
    same = found.digits[:, 0] == found.digits[:, 1]
    assert 0 < same.sum() < N / 3
    assert set(found.labels.flat) == {0, 1}
    np.testing.assert_array_equal(found.labels.sum(1), np.where(same, 1, 2))
    for numbers in range(2 * N):
        assert (split._others(np.arange(N), np.full(N, numbers)) != np.arange(N)).all()
    partners = [split._others(np.array([5]), np.array([n]))[0] for n in range(N - 1)]
    assert set(partners) == set(range(N)) - {5}
