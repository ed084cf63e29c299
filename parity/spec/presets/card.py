"""The card of a preset: network, training, source, expected time and score."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from parity.spec.networks import NetworkSpec
from parity.spec.training import TrainingSpec


@dataclass(frozen=True)
class Preset:
    """A network and its training: their source, command, time and score.

    `time` and `score` are empty where nobody has measured them; a paper's score is called so.
    `recipes` are the fields of `training` that change with the data set, by its name; without one,
    the data set's own recipe holds.
    """

    network: NetworkSpec
    training: TrainingSpec
    source: str
    command: str
    time: str
    score: str
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
