"""Learning rate, margin and temperature as pure functions of the step, the same in both wings."""

import math
from typing import Any

from parity.spec import Loss, SpecError, TrainingSpec

HARD = (0.95, 0.05, 0.8)  # positive, negative, down_weight of DeepCaps' second hundred epochs


def learning_rate(training: TrainingSpec, step: int) -> float:
    """The rate of a step, from 0: an exponential decay with a floor.

    Continuous; with the schedule "staircase" constant for `decay_steps` steps at a time, with
    "milestones" from one of these steps to the next. The 2017 paper decays exponentially without
    giving the rate; 0.96 every 2,000 steps and the floor of 1e-6 are those of its authors' code.
    Efficient-CapsNet's code decays by 0.97 an epoch. With a `hard_step` the decay begins again
    there.

    Raises:
        SpecError: For a step below 0.
    """
    _check_step(step)
    if 0 < training.hard_step <= step:  # from here on as from the beginning
        step -= training.hard_step
    decays = step / training.decay_steps
    if training.schedule == "staircase":
        decays = step // training.decay_steps
    elif training.schedule == "milestones":
        decays = sum(milestone <= step for milestone in training.milestones)
    decayed = training.learning_rate * training.decay_rate**decays
    return max(decayed, min(training.minimum_rate, training.learning_rate))


def margin(training: TrainingSpec, loss: Loss, step: int) -> Any:
    """The margin of the loss of the classes at a step, from 0; None where it is the loss' own.

    Of a spread loss, `spread`; of a margin loss, from `hard_step` on, DeepCaps' harder numbers
    (Rajasegaran et al. 2019, their code): (positive, negative, down_weight).

    Raises:
        SpecError: For a step below 0.
    """
    if loss.kind == "spread":
        return spread(training, loss.spread, step)
    _check_step(step)
    if loss.kind != "margin" or training.hard_step == 0:
        return None
    return HARD if step >= training.hard_step else (loss.positive, loss.negative, loss.down_weight)


def spread(training: TrainingSpec, last: float, step: int) -> float:
    """The margin of a spread loss at a step, from 0.

    Linear from 0.2 to `last` over `spread_steps` steps, as in the paper (Hinton, Sabour, Frosst
    2018, section 3); or 0.2 + 0.79 sigmoid(min(10, step / spread_steps - 4)), whatever the last,
    as in its released code.

    Args:
        training: Which of them, and its steps.
        last: The margin after a linear growth, and where it is constant.
        step: From 0.

    Raises:
        SpecError: For a step below 0.
    """
    _check_step(step)
    share = step / training.spread_steps
    if training.spread == "linear":
        return 0.2 + (last - 0.2) * min(share, 1)
    if training.spread == "sigmoid":
        return 0.2 + 0.79 / (1 + math.exp(-min(10, share - 4)))
    return last


def inverse_temperature(last: float, iteration: int) -> float:
    """That of a routing iteration, from 0: `last` times 1 - 0.95^(iteration + 1).

    The authors' answer on OpenReview, and their released code; the paper gives no schedule.

    Raises:
        SpecError: For an iteration below 0.
    """
    _check_step(iteration)
    return last * (1 - 0.95 ** (iteration + 1))


def _check_step(step: int) -> None:
    if step < 0:
        raise SpecError(f"schedule: step is {step}; expected a whole number of at least 0")
