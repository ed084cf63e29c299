"""Presets of matrix capsules with variational Bayes routing."""

from dataclasses import replace

from parity.spec.layers import Pixels, Primary
from parity.spec.networks import Ribeiro2020
from parity.spec.presets.card import Preset
from parity.spec.training import TrainingSpec

_PAPER = (
    "Ribeiro, Leontidis, Kollias, Capsule Routing via Variational Bayes, AAAI 2020, by their "
    "released code (fabio-deep/Variational-Capsule-Routing)"
)
_OURS = "ours: the coordinates that were meant, where theirs are one constant for all places"
_SMALLNORB = TrainingSpec(
    dataset="smallnorb",
    epochs=300,
    batch_size=128,
    learning_rate=1e-3,
    decay_rate=1.0,
    validation=4_860,  # a fifth, of which the best checkpoint is chosen, as theirs is
)

PRESETS = {
    "ribeiro2020": Preset(
        Ribeiro2020(),
        _SMALLNORB,
        source=f"{_PAPER}: CapsuleNet 64 8 16 16 5; {_OURS}, and an image's own deviation with an "
        "epsilon, over n where theirs is over n - 1",
        command="python train.py --preset ribeiro2020 --dataset smallnorb --data-dir DIR",
        time="",
        score="1.3 % test error, says the code's README, of three layers of capsules",
    ),
    "ribeiro2020-official": Preset(
        Ribeiro2020(released=True),
        _SMALLNORB,
        source=f"{_PAPER}: as ribeiro2020, with the coordinates of the released code, which add "
        "one constant to all votes for the classes",
        command="python train.py --preset ribeiro2020-official --dataset smallnorb --data-dir DIR",
        time="",
        score="",
    ),
    "ribeiro2020-tiny": Preset(
        Ribeiro2020(
            primary=Primary(types=16, size=16, kernel=3, stride=2),
            capsules=(),
            coordinates=0.0,
            shared=False,
        ),
        _SMALLNORB,
        source=f"{_PAPER}: tinyCapsuleNet, one layer of capsules, a matrix for each place",
        command="python train.py --preset ribeiro2020-tiny --dataset smallnorb --data-dir DIR",
        time="",
        score="2.9 % test error, says the code's README, of one layer of capsules",
    ),
    "ribeiro2020-mnist": Preset(
        Ribeiro2020(image=(28, 28, 1), pixels=Pixels((0.1307,), (0.3081,)), classes=10),
        replace(_SMALLNORB, dataset="mnist", epochs=20, validation=5_000),
        source=f"{_PAPER}: CapsuleNet on 28x28, which they train on 32x32 windows of padded "
        f"images; {_OURS}",
        command="python train.py --preset ribeiro2020-mnist --dataset mnist --data-dir DIR",
        time="",
        score="1.18 % test error after 3 epochs (docs/results.md)",
        recipes={"mnist-mini": {"epochs": 30, "validation": 500}},
    ),
}
