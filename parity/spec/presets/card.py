"""What a preset says: a network, its training, where both come from, what to expect."""

from dataclasses import dataclass

from parity.spec.networks import NetworkSpec
from parity.spec.training import TrainingSpec


@dataclass(frozen=True)
class Preset:
    """A network and its training, where they come from, how to run them and what to expect.

    `time` and `score` are empty where nobody has measured them; a paper's score is called so.
    """

    network: NetworkSpec
    training: TrainingSpec
    source: str
    command: str
    time: str
    score: str
