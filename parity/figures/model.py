"""What figures ask of a wing, in NumPy, and what it says of test images.

Axes: N images, J classes, D size of a pose, H W C image.
"""

from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np

from parity.data import Batch, Split, batches
from parity.spec import NetworkSpec
from parity.wing.trainer import scores


@runtime_checkable
class Model(Protocol):
    """What figures ask of a Trainer; every wing's has it."""

    spec: NetworkSpec

    def poses(self, images: Any, /) -> np.ndarray:
        """The class capsules of images [N, H, W, C]: [N, J, D]."""
        ...

    def couplings(self, images: Any, /) -> np.ndarray:
        """The routing coefficients of each iteration: [iterations, N, I, J]."""
        ...

    def reconstruct(self, poses: Any, labels: Any, /) -> np.ndarray:
        """The decoder's images [N, H, W, C], each from the capsule of its label [N]."""
        ...


@dataclass(frozen=True, eq=False)
class Seen:
    """The first N images of a split, as a network sees them.

    Attributes:
        labels: [N], or 0/1 [N, J] where several classes are in an image.
        poses: Of the class capsules, [N, J, D]; D is 0 where they have none.
        lengths: How sure the network is of each class, lengths or activations: [N, J].
    """

    model: Model
    split: Split
    labels: np.ndarray
    poses: np.ndarray
    lengths: np.ndarray

    @property
    def answers(self) -> np.ndarray:
        """The class of the longest capsule: [N]."""
        return self.lengths.argmax(1)

    def batch(self, places: np.ndarray) -> Batch:
        """The images at these places, and what else the data set says of them."""
        return self.split.batch(places)

    def reconstruct(self, places: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """The decoder's image of one class capsule of each: [len(places), H, W, C]."""
        if not len(places):
            return np.zeros((0, *self.model.spec.image), self.poses.dtype)
        return self.model.reconstruct(self.poses[places], classes)


def look(model: Model, split: Split, batch_size: int, most: int | None = None) -> Seen:
    """Shows a network the images of a split: all, or about the first `most`."""
    some = None if most is None else -(-most // batch_size)
    poses, lengths, labels = [], [], []
    by_length, classes = model.spec.ranks == "lengths", model.spec.classes
    for batch in islice(batches.evaluation(split, batch_size), some):
        real = batch.weights > 0
        seen = model.poses(batch.images) if model.spec.pose else np.zeros((len(real), classes, 0))
        sure = np.linalg.norm(seen, axis=-1) if by_length else scores(model, batch.images)
        poses.append(seen[real])
        lengths.append(sure[real])
        labels.append(batch.labels[real])
    return Seen(model, split, *map(np.concatenate, (labels, poses, lengths)))
