"""The learning rate as a pure function of the step, the same in both wings."""

from parity.spec import TrainingSpec


def learning_rate(training: TrainingSpec, step: int) -> float:
    """The rate of a step, from 0: an exponential decay with a floor.

    Continuous, or with the schedule "staircase" constant for `decay_steps` steps at a time. The
    2017 paper decays exponentially without giving the rate; 0.96 every 2,000 steps and the floor
    of 1e-6 are those of its authors' code. Efficient-CapsNet's code decays by 0.97 an epoch.
    """
    stairs = training.schedule == "staircase"
    decays = step // training.decay_steps if stairs else step / training.decay_steps
    decayed = training.learning_rate * training.decay_rate**decays
    return max(decayed, min(training.minimum_rate, training.learning_rate))
