"""What a network and a training run are: frozen dataclasses, nothing but the standard library.

A spec holds only what changes the mathematics. Where a run is computed, and how fast, is in
`RunOptions`; both are written to a run's `training.json`.
"""

from parity.spec.checks import SpecError, TwincapsError
from parity.spec.network import ROUTINGS, Conv, Init, Loss, NetworkSpec, Primary, Routing
from parity.spec.plain import from_dict, to_dict
from parity.spec.presets import PRESETS, RECIPES, Preset, preset, preset_card
from parity.spec.training import BACKENDS, OPTIMIZERS, PRECISIONS, RunOptions, TrainingSpec

__all__ = [
    "BACKENDS",
    "OPTIMIZERS",
    "PRECISIONS",
    "PRESETS",
    "RECIPES",
    "ROUTINGS",
    "Conv",
    "Init",
    "Loss",
    "NetworkSpec",
    "Preset",
    "Primary",
    "Routing",
    "RunOptions",
    "SpecError",
    "TrainingSpec",
    "TwincapsError",
    "from_dict",
    "preset",
    "preset_card",
    "to_dict",
]
