"""Specs of networks and trainings: frozen dataclasses, standard library alone.

A spec holds only what changes the mathematics. Where a run is computed, and how fast, is in
`RunOptions`; both are written to a run's `training.json`.
"""

from parity.spec.checks import SpecError, TwincapsError, gist, printable
from parity.spec.inputs import (
    check_images,
    check_labels,
    check_parts,
    check_precision,
    check_targets,
)
from parity.spec.layers import Conv, Primary, Tensor
from parity.spec.losses import Loss
from parity.spec.members import members
from parity.spec.networks import Init, NetworkSpec
from parity.spec.plain import from_dict, to_dict
from parity.spec.presets import PRESETS, Preset, preset, preset_card
from parity.spec.routings import ROUTINGS, Dynamic, Owned, Routing
from parity.spec.trained_on import Sample, TrainedOn
from parity.spec.training import BACKENDS, OPTIMIZERS, PRECISIONS, RunOptions, TrainingSpec

__all__ = [
    "BACKENDS",
    "OPTIMIZERS",
    "PRECISIONS",
    "PRESETS",
    "ROUTINGS",
    "Conv",
    "Dynamic",
    "Init",
    "Loss",
    "NetworkSpec",
    "Owned",
    "Preset",
    "Primary",
    "Routing",
    "RunOptions",
    "Sample",
    "SpecError",
    "Tensor",
    "TrainedOn",
    "TrainingSpec",
    "TwincapsError",
    "check_images",
    "check_labels",
    "check_parts",
    "check_precision",
    "check_targets",
    "from_dict",
    "gist",
    "members",
    "preset",
    "preset_card",
    "printable",
    "to_dict",
]
