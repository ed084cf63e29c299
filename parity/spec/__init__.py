"""Specs of networks and trainings: frozen dataclasses, standard library alone.

A spec holds only what changes the mathematics. Where a run is computed, and how fast, is in
`RunOptions`; both are written to a run's `training.json`.
"""

from parity.spec.checks import SpecError, TwincapsError, error_line, gist, printable
from parity.spec.inputs import (
    check_activations,
    check_count,
    check_images,
    check_iterations,
    check_labels,
    check_parts,
    check_precision,
    check_targets,
)
from parity.spec.layers import (
    NORMS,
    Block,
    CapsuleLayer,
    Conv,
    Depthwise,
    Norm,
    Pixels,
    Primary,
    Tensor,
    Upsampling,
    Window,
)
from parity.spec.losses import LOSSES, Loss
from parity.spec.members import members
from parity.spec.networks import (
    NETWORKS,
    Efficient,
    Hahn2019,
    Hinton2018,
    Init,
    MatrixInit,
    NetworkSpec,
    Sabour2017,
)
from parity.spec.plain import from_dict, to_dict
from parity.spec.presets import PRESETS, Preset, preset, preset_card
from parity.spec.routings import EM, ROUTINGS, Dynamic, Owned, Routing, SelfAttention, SelfRouting
from parity.spec.trained_on import Sample, TrainedOn
from parity.spec.training import BACKENDS, OPTIMIZERS, PRECISIONS, RunOptions, TrainingSpec

__all__ = [
    "BACKENDS",
    "EM",
    "LOSSES",
    "NETWORKS",
    "NORMS",
    "OPTIMIZERS",
    "PRECISIONS",
    "PRESETS",
    "ROUTINGS",
    "Block",
    "CapsuleLayer",
    "Conv",
    "Depthwise",
    "Dynamic",
    "Efficient",
    "Hahn2019",
    "Hinton2018",
    "Init",
    "Loss",
    "MatrixInit",
    "NetworkSpec",
    "Norm",
    "Owned",
    "Pixels",
    "Preset",
    "Primary",
    "Routing",
    "RunOptions",
    "Sabour2017",
    "Sample",
    "SelfAttention",
    "SelfRouting",
    "SpecError",
    "Tensor",
    "TrainedOn",
    "TrainingSpec",
    "TwincapsError",
    "Upsampling",
    "Window",
    "check_activations",
    "check_count",
    "check_images",
    "check_iterations",
    "check_labels",
    "check_parts",
    "check_precision",
    "check_targets",
    "error_line",
    "from_dict",
    "gist",
    "members",
    "preset",
    "preset_card",
    "printable",
    "to_dict",
]
