"""Pairs of digits through the training loop: a small data set of them, in both wings."""

import dataclasses

import numpy as np
import pytest
import wings

from parity import loop
from parity.data import Dataset, batches
from parity.data.sets.multi_mnist import Pairs
from parity.loop import scoring
from parity.runs import Run
from parity.saved import find
from parity.spec import Conv, NetworkSpec, Primary, TrainingSpec

N, TESTED, H, W = 61, 23, 5, 3
SPEC = NetworkSpec(
    image=(H + 8, W + 8, 1),
    stem=(Conv(7, 3),),
    primary=Primary(types=3, size=4, kernel=3),
    pose=5,
    decoder=(17,),
)
TRAINING = TrainingSpec(
    dataset="multi-mnist", epochs=3, batch_size=11, learning_rate=0.01, seed=5, ema=0.8
)
STEPS = 3 * 5


def dataset() -> Dataset:
    """Digits that a few pixels tell apart, with a border of 4 on each side to move in."""
    random = np.random.default_rng(2)

    def split(count: int, name: str) -> Pairs:
        labels = random.integers(0, 10, count)
        images = random.integers(0, 40, (count, H, W, 1), np.uint8)
        images[np.arange(count), labels // 2, 2 * (labels % 2)] = 255
        return Pairs(images, labels, name)

    return Dataset("pairs", split(N, "pairs/train"), split(TESTED, "pairs/test"), 10)


def train(wing, path, training=TRAINING, spec=SPEC):
    trainer = wing.training.Trainer(spec, training)
    run = Run.open(path) if path.exists() else Run.create(path, spec, training)
    with run:
        history = loop.train(trainer, dataset(), run, progress=False)
    return trainer, history


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Each wing's trainer, history and run folder, made once."""
    made = {}

    def get(wing):
        if wing.__name__ not in made:
            path = tmp_path_factory.mktemp(wing.__name__) / "run"
            made[wing.__name__] = (*train(wing, path), path)
        return made[wing.__name__]

    return get


@wings.jax_slow
def test_it_learns_pairs_and_evaluates_them(wing, trained):
    trainer, history, path = trained(wing)
    losses = [line["loss"] for line in history.lines if line["event"] == "train"]
    tested = [line for line in history.lines if line["event"] == "eval"]
    assert (len(losses), len(tested)) == (STEPS, 3)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    found = scoring.evaluate(trainer, dataset().test, 11)
    assert found["count"] == TESTED
    assert (found["loss"], found["accuracy"]) == (tested[-1]["loss"], tested[-1]["accuracy"])
    assert scoring.evaluate(trainer, dataset().test, 23) == {
        **found,
        "loss": pytest.approx(found["loss"], rel=1e-6),
    }
    assert find(str(path)).spec == SPEC


@wings.jax_slow
def test_the_accuracy_is_that_of_both_digits(wing, trained):
    """The two longest capsules are the two digits, whatever their order."""
    trainer, history, _ = trained(wing)
    (batch,) = batches.evaluation(dataset().test, TESTED)
    two = wings.numpy(trainer.net.predict(batch.images, 2))
    right = (np.sort(two, 1) == np.sort(batch.digits, 1)).all(1)
    assert history.lines[-1]["accuracy"] == right.mean()


@pytest.mark.slow
def test_both_wings_see_the_same_curve(both_wings, trained):
    torch, jax = (trained(wing)[1].lines for wing in both_wings)
    for ours, theirs in zip(torch, jax, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)


def test_a_run_of_pairs_goes_on_bit_for_bit(wing, trained, tmp_path):
    shorter = dataclasses.replace(TRAINING, epochs=2)
    train(wing, tmp_path / "run", shorter)
    with Run.open(tmp_path / "run") as run:
        run.change(TRAINING, run.options)
    again, _ = train(wing, tmp_path / "run")
    ours, theirs = again.get_state(), trained(wing)[0].get_state()
    for part in ("weights", "optimizer"):
        for name, array in theirs[part].items():
            np.testing.assert_array_equal(ours[part][name], array, name)


@wings.jax_slow
def test_a_network_without_decoder_takes_pairs_too(wing, tmp_path):
    spec = dataclasses.replace(SPEC, decoder=None)
    _, history = train(wing, tmp_path / "run", dataclasses.replace(TRAINING, epochs=1), spec)
    assert np.isfinite([line["loss"] for line in history.lines]).all()
