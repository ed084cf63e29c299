"""The learning rate as a pure function of the step, the same in both wings."""

from parity.spec import TrainingSpec


def learning_rate(training: TrainingSpec, step: int) -> float:
    """The rate of a step, from 0: continuous exponential decay with a floor.

    The paper decays exponentially without giving the rate; 0.96 every 2,000 steps and the floor
    of 1e-6 are those of the authors' code.
    """
    decayed = training.learning_rate * training.decay_rate ** (step / training.decay_steps)
    return max(decayed, min(training.minimum_rate, training.learning_rate))
