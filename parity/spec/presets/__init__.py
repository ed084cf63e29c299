"""Named networks and trainings: source, command, expected time and score."""

from parity.spec.checks import require
from parity.spec.networks import NetworkSpec
from parity.spec.presets import (
    deepcaps,
    efficient,
    inverted,
    matrix,
    sabour2017,
    self_routing,
    small,
    variational_bayes,
)
from parity.spec.presets.card import Preset as Preset

PRESETS = {
    **sabour2017.PRESETS,
    **small.PRESETS,
    **efficient.PRESETS,
    **self_routing.PRESETS,
    **matrix.PRESETS,
    **inverted.PRESETS,
    **deepcaps.PRESETS,
    **variational_bayes.PRESETS,
}


def preset_card(name: str) -> Preset:
    """The whole entry of `PRESETS`; raises SpecError with the known names."""
    require(name in PRESETS, f"preset {name!r} is unknown; expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def preset(name: str) -> NetworkSpec:
    """The network of a named preset; raises SpecError with the known names."""
    return preset_card(name).network
