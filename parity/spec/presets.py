"""Named networks with their training: where each comes from, how to run it, what to expect."""

from dataclasses import dataclass

from parity.spec.checks import require
from parity.spec.network import Conv, Init, Loss, NetworkSpec, Primary, Routing
from parity.spec.training import TrainingSpec


@dataclass(frozen=True)
class Preset:
    """A network and its training, where they come from, how to run them and what to expect."""

    network: NetworkSpec
    training: TrainingSpec
    source: str
    command: str
    time: str
    score: str


_PAPER = "Sabour, Frosst, Hinton, Dynamic Routing Between Capsules, NeurIPS 2017"
_OFFICIAL_INIT = Init(stem=0.05, primary=0.1, digit=0.1, decoder=0.1, bias=0.1)

PRESETS = {
    "sabour2017": Preset(
        NetworkSpec(),
        TrainingSpec(dataset="mnist"),
        source=f"{_PAPER}, figures 1 and 2; first weights and decay rate are ours, the paper "
        "gives none",
        command="python train.py --preset sabour2017 --dataset mnist --data-dir DIR",
        time="",
        score="",
    ),
    "sabour2017-official": Preset(
        NetworkSpec(
            primary=Primary(scale=1 / 32),
            routing=Routing(bias=True),
            loss=Loss(scale=0.5, class_mean=True),
            init=_OFFICIAL_INIT,
        ),
        TrainingSpec(dataset="mnist"),
        source=f"the authors' code of {_PAPER}: Sarasra/models, research/capsules",
        command="python train.py --preset sabour2017-official --dataset mnist --data-dir DIR",
        time="",
        score="",
    ),
    "small": Preset(
        NetworkSpec(
            stem=(Conv(16, 7),),
            primary=Primary(types=16, size=4, kernel=7),
            pose=6,
            decoder=(128, 256),
        ),
        TrainingSpec(dataset="mnist", learning_rate=2e-3),
        source="ours: the paper's network at a 25th of its size, for a laptop",
        command="python train.py --preset small",
        time="",
        score="",
    ),
}

# Small data sets want more and larger steps than the paper's recipe; train.py says so when it runs.
RECIPES = {
    "mnist-mini": {"epochs": 3, "batch_size": 64, "learning_rate": 2e-3},
}


def preset_card(name: str) -> Preset:
    """The whole entry of `PRESETS`; raises SpecError with the known names."""
    require(name in PRESETS, f"preset {name!r} is unknown; expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def preset(name: str) -> NetworkSpec:
    """The network of a named preset; raises SpecError with the known names."""
    return preset_card(name).network
