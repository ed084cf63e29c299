"""Presets of self-routing capsules, by their authors' code."""

from dataclasses import replace

from parity.spec.layers import Block, CapsuleLayer, Conv, Pixels, Primary
from parity.spec.networks import Hahn2019
from parity.spec.presets.card import Preset
from parity.spec.training import TrainingSpec

_PAPER = (
    "Hahn, Pyeon, Kim, Self-Routing Capsule Networks, NeurIPS 2019, by their authors' code "
    "(coder3000/SR-CapsNet)"
)
_OURS = (
    "ours: the test set after the last epoch, where theirs is the epoch that did best on a tenth "
    "of the training images"
)
# Of the first 4,000 training images.
_CIFAR = Pixels((0.4916, 0.4818, 0.4447), (0.2471, 0.2440, 0.2625))
_MNIST = Pixels((0.1307,), (0.3081,))


def _recipe(dataset: str, images: int, epochs: int, *after: int) -> TrainingSpec:
    """Their training: the rate falls to a tenth after each of these epochs."""
    return TrainingSpec(
        dataset=dataset,
        epochs=epochs,
        batch_size=64,
        optimizer="sgd",
        learning_rate=0.1,
        decay_rate=0.1,
        schedule="milestones",
        milestones=_steps(images, *after),
        l2=1e-4,
        shift=0,
    )


def _steps(images: int, *epochs: int) -> tuple[int, ...]:
    return tuple(images // 64 * epoch for epoch in epochs)


# 28x28 -> 14x14 -> 7x7 of 16 types of 8 -> 4x4 of 16 types of 8 -> ten classes
_SMALL = Hahn2019(
    image=(28, 28, 1),
    pixels=_MNIST,
    stem=(Conv(16, 3),),
    blocks=(Block(16), Block(32, 2), Block(64, 2)),
    primary=Primary(types=16, size=8, kernel=3, stride=1),
    capsules=(CapsuleLayer(types=16, size=8, stride=2),),
)

PRESETS = {
    "selfrouting2019": Preset(
        Hahn2019(pixels=_CIFAR),
        _recipe("cifar10-32", 50_000, 350, 150, 250),
        source=f"{_PAPER}: SR-1, ResNet-20; {_OURS}",
        command="python train.py --preset selfrouting2019 --dataset cifar10-32 --data-dir DIR",
        time="",
        score="8.17 % test error in the paper",
    ),
    "selfrouting2019-2": Preset(
        Hahn2019(pixels=_CIFAR, capsules=(CapsuleLayer(stride=2),)),
        _recipe("cifar10-32", 50_000, 350, 150, 250),
        source=f"{_PAPER}: SR-2, one more layer of capsules; {_OURS}",
        command="python train.py --preset selfrouting2019-2 --dataset cifar10-32 --data-dir DIR",
        time="",
        score="7.86 % test error in the paper",
    ),
    "selfrouting2019-svhn": Preset(
        Hahn2019(pixels=Pixels(own=True)),
        _recipe("svhn", 73_257, 200, 100, 150),
        source=f"{_PAPER}: SR-1; {_OURS}, and each image standardised by its own numbers",
        command="python train.py --preset selfrouting2019-svhn --dataset svhn --data-dir DIR",
        time="",
        score="3.34 % test error in the paper",
    ),
    "selfrouting2019-mnist": Preset(
        _SMALL,
        replace(_recipe("mnist", 60_000, 12, 6, 9), shift=2),
        source=f"ours, for 28x28: a smaller residual network than that of {_PAPER}, with one layer "
        "of capsules before the classes",
        command="python train.py --preset selfrouting2019-mnist --dataset mnist --data-dir DIR",
        time="",
        score="1.60 % (JAX) and 1.69 % (PyTorch) test error after 3 epochs (docs/results.md)",
        recipes={
            "mnist-mini": {"epochs": 30, "milestones": _steps(5_000, 15, 24)},
            "fashion-mnist": {"epochs": 20, "milestones": _steps(60_000, 10, 15)},
        },
    ),
}
