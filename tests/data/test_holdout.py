"""Images held out for validation: so many, of each class its share, by the seed, never trained on.

Axes: N training images, V of them held out.
"""

import dataclasses

import fakes
import numpy as np
import pytest

from parity import data, loop
from parity.data.crops import Cropped
from parity.data.holdout import drawn, hold_out
from parity.data.sets.affnist import placed
from parity.data.sets.multi_mnist import Pairs
from parity.runs import Run, checkpoints
from parity.spec import TrainingSpec, to_dict

RANDOM = np.random.default_rng(7)
LABELS = RANDOM.permutation(np.repeat([0, 1, 2, 3], [101, 53, 29, 7]))
IMAGES = RANDOM.integers(0, 256, (len(LABELS), 28, 28, 1), np.uint8)


@pytest.mark.parametrize("seed", [0, 3, 2**62])
@pytest.mark.parametrize("count", [1, 2, 19, 47, 101, 170])
def test_each_class_gives_its_share(count, seed):
    places = drawn(LABELS, count, seed)
    assert len(np.unique(places)) == len(places) == count
    assert (np.diff(places) > 0).all()
    for label in np.unique(LABELS):
        share = count * (label == LABELS).mean()
        assert abs((LABELS[places] == label).sum() - share) < 1
    np.testing.assert_array_equal(places, drawn(LABELS, count, seed))
    if 1 < count < 101:
        assert (places != drawn(LABELS, count, seed + 1)).any()


@pytest.mark.parametrize("count", [len(LABELS), len(LABELS) - 1, 5000])
def test_no_class_is_left_without_training(count):
    with pytest.raises(data.DataError, match=rf"validation is {count} of 190 training images"):
        drawn(LABELS, count, 0)


KINDS = {
    "plain": data.Split(IMAGES, LABELS),
    "windows": Cropped(IMAGES, LABELS, (24, 20)),
    "placed": placed(data.Split(IMAGES, LABELS)),
    "pairs": Pairs(IMAGES, LABELS, "pairs/train"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_split_is_parted_into_two_of_its_kind(kind):
    whole = KINDS[kind]
    dataset = data.Dataset("mine", whole, whole, 4)
    training = TrainingSpec(validation=47, seed=5)
    found = hold_out(dataset, training)
    assert found.validation is not None
    assert type(found.train) is type(found.validation) is type(whole)
    assert (len(found.train), len(found.validation)) == (143, 47)
    assert found.test is whole
    places = drawn(LABELS, 47, 5)
    np.testing.assert_array_equal(found.validation.images, whole.images[places])
    np.testing.assert_array_equal(found.validation.labels, LABELS[places])
    kept = {each.tobytes() for each in found.train.images}
    assert not kept & {each.tobytes() for each in found.validation.images}
    assert hold_out(found, training) is found
    assert hold_out(dataset, TrainingSpec()) is dataset
    assert found.held_out != hold_out(dataset, TrainingSpec(validation=47, seed=6)).held_out


CHOOSING = dataclasses.replace(fakes.TRAINING, epochs=6, validation=9, learning_rate=0.02)


@pytest.mark.parametrize("ema", [None, 0.8])
def test_the_best_checkpoint_is_the_best_on_validation_images(tmp_path, ema):
    training = dataclasses.replace(CHOOSING, ema=ema)
    dataset = fakes.dataset(train=41, test=31)
    with Run.create(tmp_path / "run", fakes.SPEC, training) as run:
        history = loop.train(fakes.Trainer(training=training), dataset, run, progress=False)
        assert run.trained_on is not None
        assert run.trained_on.validation == hold_out(dataset, training).held_out
        assert run.trained_on.train is not None
        assert run.trained_on.train.count == 32
    assert max(line["step"] for line in history.lines) == 6 * 8  # 32 of 41 images, by fours
    tested = [line for line in history.lines if line["event"] == "eval"]
    names = ["validation_accuracy", *["ema_validation_accuracy"] * (ema is not None)]
    scores = {line["step"]: max(line[name] for name in names) for line in tested}
    assert len(set(scores.values())) > 1
    best = run.best()
    assert best is not None
    assert best.state.validation == scores[best.state.step] == max(scores.values())
    assert history.best == max(scores.values())
    assert history.accuracy == tested[-1]["accuracy"]
    for path in checkpoints.listed(run.path / "checkpoints"):
        state = checkpoints.read_state(path)
        assert (state.validation, state.score) == (scores[state.step],) * 2
        assert state.accuracy == next(x["accuracy"] for x in tested if x["step"] == state.step)


def test_a_run_with_validation_goes_on_where_it_was(tmp_path):
    dataset, whole = fakes.dataset(train=41), fakes.Trainer(training=CHOOSING)
    loop.train(whole, dataset, progress=False)
    short = dataclasses.replace(CHOOSING, epochs=2)
    with Run.create(tmp_path / "run", fakes.SPEC, short) as run:
        loop.train(fakes.Trainer(training=short), dataset, run, progress=False)
        run.change(CHOOSING, run.options)
        again = fakes.Trainer(training=CHOOSING)
        loop.train(again, dataset, run, progress=False)
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)


def test_a_training_without_validation_is_written_as_it_was_before_there_was_any():
    assert "validation" not in to_dict(TrainingSpec())
    assert to_dict(TrainingSpec(validation=3))["validation"] == 3
