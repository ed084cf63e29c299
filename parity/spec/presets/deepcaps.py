"""Presets of DeepCaps, by its authors' code."""

from parity.spec.layers import Transposed
from parity.spec.losses import Loss
from parity.spec.networks import Rajasegaran2019
from parity.spec.presets.card import Preset
from parity.spec.training import TrainingSpec

_PAPER = (
    "Rajasegaran, Jayasundara, Jayasekara, Jayasekara, Seneviratne, Rodrigo, DeepCaps: Going "
    "Deeper with Capsule Networks, CVPR 2019, by its authors' code (brjathu/deepcaps)"
)
_OURS = (
    "3-D routing as the paper has it, on the axes it means (theirs: Dynamic3D(released=True)); "
    "ours: the second hundred epochs, of a harder loss, go on with Adam's moments"
)


def _recipe(dataset: str, steps: int) -> TrainingSpec:
    """Their training on a data set whose epoch has so many steps of 256."""
    return TrainingSpec(
        dataset=dataset,
        epochs=200,
        batch_size=256,
        learning_rate=1e-3,
        decay_rate=0.5,
        decay_steps=10 * steps,
        schedule="staircase",
        epsilon=1e-7,
        epsilon_hat=True,
        augment="deepcaps",
        hard_step=100 * steps,
    )


PRESETS = {
    "deepcaps": Preset(
        Rajasegaran2019(),
        _recipe("cifar10-64", 195),
        source=f"{_PAPER}; {_OURS}",
        command="python train.py --preset deepcaps --dataset cifar10-64 --data-dir DIR",
        time="",
        score="7.26 % test error of seven networks together (the authors' README)",
        recipes={"svhn-64": {"decay_steps": 2_860, "hard_step": 28_600}},
    ),
    "deepcaps-32": Preset(
        Rajasegaran2019(
            image=(32, 32, 3),
            upsampling=Transposed(strides=(1, 2, 2, 1, 1)),
            loss=Loss(reconstruction=0.4 / (32 * 32 * 3)),
        ),
        _recipe("svhn", 286),
        source=f"{_PAPER}: the network of 64x64 on 32x32, with a decoder that makes as large "
        f"images; {_OURS}",
        command="python train.py --preset deepcaps-32 --dataset svhn --data-dir DIR",
        time="",
        score="",
    ),
    "deepcaps-mnist": Preset(
        Rajasegaran2019(
            image=(28, 28, 1),
            decoder=(784,),
            upsampling=Transposed(channels=(64, 32, 16), strides=(1, 2, 2, 1)),
            loss=Loss(reconstruction=0.4 / (28 * 28)),
        ),
        _recipe("mnist", 234),
        source=f"{_PAPER}, its DeepCapsNet28; {_OURS}",
        command="python train.py --preset deepcaps-mnist --dataset mnist --data-dir DIR",
        time="",
        score="1.75 % (JAX) and 2.17 % (PyTorch) test error after 3 epochs (docs/results.md); "
        "0.28 % in the authors' README, and 5.27 % of Fashion-MNIST",
        recipes={
            "mnist-mini": {"epochs": 30, "batch_size": 128, "decay_steps": 390, "hard_step": 780},
        },
    ),
}
