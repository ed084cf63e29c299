"""Moving averages of the weights: the recursion, a state to and fro, and what a run makes of them.

The recursion in NumPy: average += (1 - ema) * (weights - average), from the first weights on.
"""

from dataclasses import replace

import fakes
import numpy as np
import pytest
import wings
from specs import PRIMES
from test_loop import KEYS, created, interrupt
from test_network import random_case
from test_training import PRECISIONS, batches, training

from parity import loop
from parity.compare.rungs import RUNGS
from parity.loop import scoring
from parity.runs import Run, checkpoints
from parity.saved import find
from parity.spec import OPTIMIZERS
from parity.weights import WeightsError, averages, first_slots, kinds

EMA = 0.7
TOLERANCE = {"float32": 1e-6, "float64": 1e-14}


def recursion(history, ema):
    """The average after each of these weights; the first are those before the first step."""
    average = {name: array.astype("float64") for name, array in history[0].items()}
    for weights in history[1:]:
        for name, array in weights.items():
            average[name] = average[name] + (1 - ema) * (array - average[name])
    return average


@pytest.mark.parametrize("precision", wings.wide(PRECISIONS, "float32".__eq__))
@pytest.mark.parametrize("optimizer", wings.wide(OPTIMIZERS, "adamw".__eq__))
@wings.jax_slow
def test_the_average_is_a_recursion_over_the_weights(wing, optimizer, precision):
    """Unlike them in every tensor, and they are what they are without it."""
    rate = 30.0 if optimizer == "sgd" else 0.1
    spec = replace(training(optimizer, precision, ema=EMA), learning_rate=rate)
    trainer = wing.training.Trainer(PRIMES, spec)
    plain = wing.training.Trainer(PRIMES, replace(spec, ema=None))
    # first weights of which every tensor has a gradient worth the name
    arrays = {name: a.astype(precision) for name, a in random_case(PRIMES)[0].items()}
    for each in (trainer, plain):
        slots = first_slots(kinds(optimizer, each.training.ema), arrays)
        each.set_state({"step": 0, "weights": arrays, "optimizer": slots})
    states = [trainer.get_state()]
    # To the bit, but where XLA rounds another program elsewhere: Adam magnifies that by every step.
    elsewhere = wing.__name__ == "jax_caps" and optimizer == "adam"
    compared, allowed = (2, RUNGS[4].tolerance(precision)) if elsewhere else (5, 0.0)
    for n, batch in enumerate(batches(5)):
        trainer.step(*batch)
        if n < compared:
            plain.step(*batch)
        states.append(trainer.get_state())
    for n, state in enumerate(states):
        expected = recursion([each["weights"] for each in states[: n + 1]], EMA)
        found = averages(state["optimizer"])
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            assert found[name].dtype == state["weights"][name].dtype
            assert wings.difference(found[name], array) < TOLERANCE[precision], (n, name)
            assert n == 0 or wings.difference(found[name], state["weights"][name]) > 1e-4, name
    assert not averages(plain.get_state()["optimizer"])
    for name, array in plain.get_state()["weights"].items():
        assert wings.difference(array, states[compared]["weights"][name]) <= allowed, name


def test_the_averages_begin_at_the_first_weights(wing):
    state = wing.training.Trainer(PRIMES, training(ema=EMA)).get_state()
    found = averages(state["optimizer"])
    assert found.keys() == state["weights"].keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, state["weights"][name], strict=True)


@wings.jax_slow
def test_a_state_with_averages_goes_on_bit_for_bit_in_the_same_wing(wing):
    spec, data = training(ema=EMA), list(batches(6))
    whole, first, second = (wing.training.Trainer(PRIMES, spec) for _ in range(3))
    for n, batch in enumerate(data):
        whole.step(*batch)
        (first if n < 3 else second).step(*batch)
        if n == 2:
            second.set_state(first.get_state())
    same(whole.get_state(), second.get_state())


def same(a, b):
    assert a["step"] == b["step"]
    for part in ("weights", "optimizer"):
        assert a[part].keys() == b[part].keys()
        for name, array in a[part].items():
            np.testing.assert_array_equal(array, b[part][name], name, strict=True)


@pytest.mark.float64
@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.slow
def test_a_state_with_averages_goes_on_in_the_other_wing(both_wings, direction):
    spec, data = training(precision="float64", ema=EMA), list(batches(8))
    source, target = both_wings[::direction]
    whole, first = (source.training.Trainer(PRIMES, spec) for _ in range(2))
    second = target.training.Trainer(PRIMES, spec)
    for n, batch in enumerate(data):
        whole.step(*batch)
        (first if n < 4 else second).step(*batch)
        if n == 3:
            handed = first.get_state()
            second.set_state(handed)
            same(handed, second.get_state())
    a, b = whole.get_state(), second.get_state()
    for part in ("weights", "optimizer"):
        assert a[part].keys() == b[part].keys()
        for name, array in a[part].items():
            assert wings.difference(array, b[part][name]) < 1e-9, name


def test_a_state_with_or_without_averages_is_refused_by_the_other_kind(wing):
    with_them, without = (wing.training.Trainer(PRIMES, training(ema=ema)) for ema in (EMA, None))
    with pytest.raises(WeightsError, match=r"missing ema/digit\.kernel"):
        with_them.set_state(without.get_state())
    with pytest.raises(WeightsError, match=r"unexpected ema/digit\.kernel"):
        without.set_state(with_them.get_state())


@wings.jax_slow
def test_the_averages_take_the_place_of_the_weights_and_leave_it_again(wing):
    trainer = wing.training.Trainer(PRIMES, training(ema=EMA))
    given = list(batches(3))
    for batch in given:
        trainer.step(*batch)
    before, ones = trainer.get_state(), np.ones(8, "float32")
    raw = trainer.evaluate(*given[0], ones)
    with scoring.averaged(trainer):
        inside, shown = trainer.get_state()["weights"], trainer.evaluate(*given[0], ones)
    for name, array in averages(before["optimizer"]).items():
        np.testing.assert_array_equal(inside[name], array)
    assert shown["loss"] != raw["loss"]
    with pytest.raises(KeyError), scoring.averaged(trainer):
        raise KeyError
    same(before, trainer.get_state())
    assert trainer.evaluate(*given[0], ones) == raw


# The loop, with the fake Trainer.

AVERAGED = replace(fakes.TRAINING, ema=0.6)


def train(trainer, run=None):
    return loop.train(trainer, fakes.dataset(), run, progress=False)


def test_evaluations_tell_of_both_and_neither_is_chosen_on_the_test_set(tmp_path):
    trainer = fakes.Trainer(training=AVERAGED)
    with Run.create(tmp_path / "run", fakes.SPEC, AVERAGED) as run:
        history = train(trainer, run)
        assert run.metrics() == history.lines
        tested = [line for line in history.lines if line["event"] == "eval"]
        for line in history.lines:
            more = ["ema_loss", "ema_accuracy"] if line in tested else []
            assert list(line) == [*KEYS, *more]
        assert any(line["ema_accuracy"] != line["accuracy"] for line in tested)
        plain = [line["accuracy"] for line in tested]
        found = [
            checkpoints.read_state(path).accuracy
            for path in checkpoints.listed(run.path / "checkpoints")
        ]
        assert found == plain
        assert (history.accuracy, history.best) == (plain[-1], max(plain))
        arrays = find(str(run.path), averaged=True).arrays
    trainer.arrays = arrays
    again = scoring.evaluate(trainer, fakes.dataset().test, 4)
    expected = {f"ema_{name}": again[name] for name in ("loss", "accuracy")}
    assert expected.items() <= tested[-1].items()


def test_the_raw_weights_are_trained_and_saved_as_without_averages(tmp_path):
    with created(tmp_path / "plain") as plain:
        train(fakes.Trainer(), plain)
    with Run.create(tmp_path / "run", fakes.SPEC, AVERAGED) as run:
        history = train(fakes.Trainer(training=AVERAGED), run)
        lines = [{key: line[key] for key in KEYS[:-1]} for line in history.lines]
        assert lines == [{key: line[key] for key in KEYS[:-1]} for line in plain.metrics()]
    ours, theirs = (find(str(each.path)).arrays for each in (run, plain))
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array)


def test_a_stop_while_the_averages_are_tested_saves_the_weights(tmp_path):
    """The checkpoint of an interrupted evaluation has the weights in their own place."""
    whole = fakes.Trainer(training=AVERAGED)
    train(whole)
    first = fakes.Trainer(training=AVERAGED)
    evaluate, calls = first.evaluate, []

    def stop(*batch):
        calls.append(batch)
        if len(calls) == 3:  # two batches of the weights, then the first of the averages
            interrupt()(first)
        return evaluate(*batch)

    first.evaluate = stop
    with Run.create(tmp_path / "run", fakes.SPEC, AVERAGED) as run, pytest.raises(loop.Stopped):
        train(first, run)
    with Run.open(run.path) as run:
        found = run.newest()
        assert found is not None
        assert (found.state.epoch, found.state.step) == (0, 5)
        assert any((found.weights[n] != a).any() for n, a in averages(found.optimizer).items())
        second = fakes.Trainer(training=AVERAGED)
        train(second, run)
    same(whole.get_state(), second.get_state())


def test_the_lines_shown_tell_of_both(capsys):
    loop.train(fakes.Trainer(training=AVERAGED), fakes.dataset())
    shown = [line for line in capsys.readouterr().out.splitlines() if "test accuracy" in line]
    assert len(shown) == 3
    assert all("  averaged weights " in line for line in shown)
