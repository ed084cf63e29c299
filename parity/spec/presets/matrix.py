"""Presets of matrix capsules with EM routing."""

from parity.spec.layers import CapsuleLayer, Conv, Primary
from parity.spec.networks import Hinton2018, MatrixInit
from parity.spec.presets.card import Preset
from parity.spec.training import Augmentation, Spread, TrainingSpec

_PAPER = "Hinton, Sabour, Frosst, Matrix capsules with EM routing, ICLR 2018, figure 1"
_OURS = (
    "the paper's rule with the constants, first weights, schedule and weight decay, of kernels "
    "alone, of the authors' released code"
)
_SMALL = {
    "stem": (Conv(64, 5, 2),),
    "primary": Primary(types=8, size=16, kernel=1, stride=1),
    "capsules": (CapsuleLayer(16, stride=2), CapsuleLayer(16)),
}
# The released betas are for millions of steps: a logit of the classes begins near -3.6, a unit of
# mass moves it by 0.07, and Adam a beta of -2500 by 0.003 a step.
_NO_BETAS = MatrixInit(beta_a=0.0, beta_u=0.0, class_beta_a=0.0, class_beta_u=0.0)


def _recipe(
    dataset: str,
    epochs: int,
    spread: Spread,
    steps: int,
    augment: Augmentation = "shift",
    decay_steps: int = 20_000,
) -> TrainingSpec:
    return TrainingSpec(
        dataset=dataset,
        epochs=epochs,
        batch_size=64,
        learning_rate=3e-3,
        decay_steps=decay_steps,
        l2=2e-7,
        l2_of="kernels",
        spread=spread,
        spread_steps=steps,
        augment=augment,
    )


PRESETS = {
    "hinton2018": Preset(
        Hinton2018(),
        _recipe("smallnorb", 800, "sigmoid", 50_000, "lighting"),
        source=f"{_PAPER}: A = B = C = D = 32; {_OURS}, both channels of an image standardised "
        "together, its brightness and contrast changed in training",
        command="python train.py --preset hinton2018 --dataset smallnorb --data-dir DIR",
        time="",
        score="1.8 % test error in the paper (table 1)",
    ),
    "hinton2018-small": Preset(
        Hinton2018(**_SMALL),
        _recipe("smallnorb", 800, "sigmoid", 50_000, "lighting"),
        source=f"{_PAPER}: A = 64, B = 8, C = D = 16, the paper's network of 68 K; as hinton2018",
        command="python train.py --preset hinton2018-small --dataset smallnorb --data-dir DIR",
        time="",
        score="2.2 % test error in the paper",
    ),
    "hinton2018-mnist": Preset(
        Hinton2018(image=(28, 28, 1), classes=10, **_SMALL, init=_NO_BETAS),
        _recipe("mnist", 10, "linear", 5_000, decay_steps=120),
        source=f"{_PAPER}: the small network on 28x28; {_OURS}; ours: first betas of 0, and a rate "
        "that falls to a twentieth in the run",
        command="python train.py --preset hinton2018-mnist --dataset mnist --data-dir DIR",
        time="12 s an epoch of MNIST with JAX on an H100",
        score="4.10 % test error after 10 epochs of 55,000 images (JAX)",
        recipes={
            "mnist-mini": {"epochs": 30, "spread_steps": 1_000, "decay_steps": 30},
            "fashion-mnist": {"epochs": 20, "spread_steps": 10_000, "decay_steps": 240},
        },
    ),
}
