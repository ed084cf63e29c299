"""The card of a preset: network, training, source, expected time and score."""

from dataclasses import dataclass

from parity.spec.networks import NetworkSpec
from parity.spec.training import TrainingSpec


@dataclass(frozen=True)
class Preset:
    """A network and its training: their source, command, time and score.

    `time` and `score` are empty where nobody has measured them; a paper's score is called so.
    """

    network: NetworkSpec
    training: TrainingSpec
    source: str
    command: str
    time: str
    score: str
