"""Presets of inverted dot-product attention, by its authors' code."""

from dataclasses import replace

from parity.spec.layers import Block, CapsuleLayer, Conv, Pixels, Primary
from parity.spec.networks import Tsai2020
from parity.spec.presets.card import Preset
from parity.spec.training import TrainingSpec

_PAPER = (
    "Tsai, Srivastava, Goh, Salakhutdinov, Capsules with Inverted Dot-Product Attention Routing, "
    "ICLR 2020, by its authors' code (apple/ml-capsules-inverted-attention-routing)"
)
_OURS = (
    "ours: windows of neighbouring places, where the release scrambles them (released=True), and "
    "the test set after the last epoch, where theirs is the best epoch on it"
)
_CIFAR = Pixels((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_MNIST = Pixels((0.1307,), (0.3081,))


def _recipe(dataset: str, images: int, epochs: int, *after: int) -> TrainingSpec:
    """Their training: the rate falls to a tenth after each of these epochs."""
    return TrainingSpec(
        dataset=dataset,
        epochs=epochs,
        batch_size=128,
        optimizer="sgd",
        learning_rate=0.1,
        decay_rate=0.1,
        schedule="milestones",
        milestones=_steps(images, *after),
        l2=5e-4,
        shift=0,
    )


def _steps(images: int, *epochs: int) -> tuple[int, ...]:
    return tuple(images // 128 * epoch for epoch in epochs)


_NETWORK = Tsai2020(pixels=_CIFAR)
# 28x28 -> 14x14 of 16 types of 3x3 -> 6x6 -> 4x4 -> ten classes
_SMALL = Tsai2020(
    image=(28, 28, 1),
    pixels=_MNIST,
    stem=(Conv(16, 3),),
    blocks=(Block(16), Block(32, 2, projected=True)),
    primary=Primary(types=16, size=9, kernel=1, stride=1),
    capsules=(CapsuleLayer(types=16, size=9, stride=2), CapsuleLayer(types=16, size=9)),
    pose=9,
)

PRESETS = {
    "tsai2020": Preset(
        _NETWORK,
        _recipe("cifar10-32", 50_000, 350, 150, 250),
        source=f"{_PAPER}: the ResNet backbone, T = 2, concurrent; {_OURS}",
        command="python train.py --preset tsai2020 --dataset cifar10-32 --data-dir DIR",
        time="",
        score="94.85 % test accuracy in their README, the mean; 94.73 % for T = 1",
    ),
    "tsai2020-simple": Preset(
        replace(_NETWORK, stem=(Conv(128, 3, 2),), blocks=(), norm=None),
        _recipe("cifar10-32", 50_000, 350, 150, 250),
        source=f"{_PAPER}: the simple backbone, one convolution, with the same capsules; {_OURS}",
        command="python train.py --preset tsai2020-simple --dataset cifar10-32 --data-dir DIR",
        time="",
        score="",
    ),
    "tsai2020-mnist": Preset(
        _SMALL,
        replace(_recipe("mnist", 60_000, 12, 6, 9), shift=2),
        source=f"ours, for 28x28: a smaller residual network and smaller poses than those of "
        f"{_PAPER}; {_OURS}",
        command="python train.py --preset tsai2020-mnist --dataset mnist --data-dir DIR",
        time="",
        score="1.49 % test error after 3 epochs in JAX (docs/results.md)",
        recipes={
            "mnist-mini": {"epochs": 30, "milestones": _steps(5_000, 15, 24)},
            "fashion-mnist": {"epochs": 20, "milestones": _steps(60_000, 10, 15)},
        },
    ),
}
