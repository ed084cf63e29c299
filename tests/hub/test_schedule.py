"""The learning rate of a step, counted from 0: at the ends of a run, and at the floor."""

import itertools
import math

import pytest

from parity.schedule import learning_rate
from parity.spec import SpecError, TrainingSpec

PAPER = TrainingSpec()


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 1e-3),
        (1, 1e-3 * 0.96 ** (1 / 2000)),
        (1000, 1e-3 * math.sqrt(0.96)),
        (2000, 0.96e-3),
        (3751, 1e-3 * 0.96**1.8755),  # the last step of eight epochs of 469, and the one after
        (3752, 1e-3 * 0.96**1.876),
    ],
)
def test_the_authors_rate(step, rate):
    assert learning_rate(PAPER, step) == pytest.approx(rate, rel=1e-15)


def test_the_decay_is_continuous_and_never_pauses():
    rates = [learning_rate(PAPER, step) for step in range(5000)]
    assert all(later < earlier for earlier, later in itertools.pairwise(rates))
    assert rates[1] / rates[0] == pytest.approx(rates[4999] / rates[4998], rel=1e-12)


def test_the_rate_stops_at_its_floor():
    reached = 2000 * math.log(1e-3) / math.log(0.96)
    before, after = math.floor(reached), math.ceil(reached)
    assert learning_rate(PAPER, before) > 1e-6
    assert learning_rate(PAPER, after) == 1e-6
    assert learning_rate(PAPER, 10**9) == 1e-6


def test_a_rate_below_the_floor_is_kept():
    slow = TrainingSpec(learning_rate=1e-7)
    assert [learning_rate(slow, step) for step in (0, 1, 10**6)] == [1e-7] * 3


def test_a_decay_of_one_is_constant():
    flat = TrainingSpec(learning_rate=0.25, decay_rate=1.0)
    assert {learning_rate(flat, step) for step in (0, 1, 777, 10**6)} == {0.25}


EFFICIENT = TrainingSpec(
    learning_rate=5e-4, decay_rate=0.97, decay_steps=3750, minimum_rate=5e-5, schedule="staircase"
)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 5e-4),
        (3749, 5e-4),
        (3750, 0.97 * 5e-4),
        (7499, 0.97 * 5e-4),
        (7500, 0.97**2 * 5e-4),
        (76 * 3750 - 1, 0.97**75 * 5e-4),  # 5.09e-5: the last stair above the floor
        (76 * 3750, 5e-5),
        (10**9, 5e-5),
    ],
)
def test_a_staircase_stands_for_an_epoch_and_stops_at_its_floor(step, rate):
    assert learning_rate(EFFICIENT, step) == pytest.approx(rate, rel=1e-15)


def test_schedules_that_make_no_sense_are_refused():
    with pytest.raises(SpecError, match=r"decay_rate is 1\.5; expected at most 1 with"):
        TrainingSpec(schedule="staircase", decay_rate=1.5)
    with pytest.raises(SpecError, match=r"schedule 'cosine' is unknown; .* exponential, staircase"):
        TrainingSpec(schedule="cosine")
    with pytest.raises(SpecError, match=r"augment 'flip' is unknown; .* shift, efficient"):
        TrainingSpec(augment="flip")


def test_the_rate_is_a_plain_float():
    assert type(learning_rate(PAPER, 0)) is float
    assert type(learning_rate(PAPER, 10**9)) is float
