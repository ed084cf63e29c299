"""Specs of networks and trainings: frozen dataclasses, standard library alone.

A spec holds only what changes the mathematics. Where a run is computed, and how fast, is in
`RunOptions`; both are written to a run's `training.json`.
"""

from parity.spec.checks import (
    SpecError,
    TwincapsError,
    check_count,
    error_line,
    gist,
    printable,
)
from parity.spec.convolution import Method
from parity.spec.inputs import (
    check_images,
    check_labels,
    check_parts,
    check_precision,
    check_targets,
)
from parity.spec.layers import (
    NORMS,
    Conv,
    Depthwise,
    Norm,
    NormKind,
    Pixels,
    Primary,
    Tensor,
    Upsampling,
)
from parity.spec.losses import Loss
from parity.spec.members import members
from parity.spec.networks import NETWORKS, Efficient, Init, NetworkSpec, Sabour2017
from parity.spec.plain import from_dict, to_dict
from parity.spec.presets import PRESETS, Preset, preset, preset_card
from parity.spec.routings import ROUTINGS, Dynamic, Owned, Routing, RoutingName, SelfAttention
from parity.spec.trained_on import Sample, TrainedOn
from parity.spec.training import (
    BACKENDS,
    OPTIMIZERS,
    PRECISIONS,
    Augmentation,
    Backend,
    Optimizer,
    Precision,
    RunOptions,
    Schedule,
    TrainingSpec,
)

__all__ = [
    "BACKENDS",
    "NETWORKS",
    "NORMS",
    "OPTIMIZERS",
    "PRECISIONS",
    "PRESETS",
    "ROUTINGS",
    "Augmentation",
    "Backend",
    "Conv",
    "Depthwise",
    "Dynamic",
    "Efficient",
    "Init",
    "Loss",
    "Method",
    "NetworkSpec",
    "Norm",
    "NormKind",
    "Optimizer",
    "Owned",
    "Pixels",
    "Precision",
    "Preset",
    "Primary",
    "Routing",
    "RoutingName",
    "RunOptions",
    "Sabour2017",
    "Sample",
    "Schedule",
    "SelfAttention",
    "SpecError",
    "Tensor",
    "TrainedOn",
    "TrainingSpec",
    "TwincapsError",
    "Upsampling",
    "check_count",
    "check_images",
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
