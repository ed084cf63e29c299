"""What the training loop, the scores and the figures ask of a wing's Trainer."""

from typing import Any, Protocol

import numpy as np

from parity import reference
from parity.data import Dataset
from parity.runs.disk import RunError
from parity.spec import NetworkSpec, TrainingSpec


class Trainer(Protocol):
    """What the loop asks of a wing.

    The parts are what an image of several things is made of (`Batch.made_of`), None for others.
    A Trainer that can be looked into has trace(images, labels, parts) -> values, gradients by
    name. One with a `.group` is one of several processes that run the loop together, each with
    its own rows of every batch.
    """

    spec: NetworkSpec
    training: TrainingSpec

    def step(self, images: Any, targets: Any, parts: Any = None, /) -> dict[str, float]:
        """Trains on a batch: `loss`, `accuracy` and `learning_rate` of the step."""
        ...

    def evaluate(
        self, images: Any, targets: Any, weights_B: Any, parts: Any = None, /
    ) -> dict[str, float]:
        """Weighted sums over a batch of `loss`, `correct` and `count`."""
        ...

    def poses(self, images: Any, /) -> np.ndarray:
        """The class capsules of images: [B, J, D]."""
        ...

    def get_state(self) -> dict[str, Any]:
        """`step`, `weights` and `optimizer` (the slots), by canonical names."""
        ...

    def set_state(self, state: Any, /) -> None:
        """Goes on from a state of either wing."""
        ...


def scores(trainer: Any, images: Any) -> np.ndarray:
    """What accuracy ranks of a Trainer's class capsules, lengths or activations: [B, J]."""
    if trainer.spec.ranks == "activations":
        return trainer.scores(images)
    return reference.lengths(trainer.poses(images))


def check(spec: NetworkSpec, dataset: Dataset) -> None:
    """Raises RunError unless a network takes the images and classes of a data set."""
    if (dataset.train.shape, dataset.classes) != (spec.image, spec.classes):
        raise RunError(
            f"{dataset.name} has images of {dataset.train.shape} in {dataset.classes} classes, "
            f"the network takes {spec.image} in {spec.classes}; give its spec the data's image "
            "and classes"
        )
