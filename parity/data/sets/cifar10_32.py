"""CIFAR-10 at its own size: 60,000 colour photographs of ten classes, 32x32.

As residual networks train on it: training images are random windows of 32x32 within a black border
of 4 pixels, half of them mirrored; evaluation sees them as they are (He et al. 2016, section 4.2).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from parity.data import locate
from parity.data.crops import Cropped
from parity.data.registry import Found
from parity.data.sets import cifar10
from parity.data.splits import Batch, Dataset, Split

BORDER = 4


@dataclass(frozen=True, eq=False)
class Mirrored(Cropped):
    """Windows that are mirrored, left to right, every other time in training."""

    augmentations: ClassVar[tuple[str, ...]] = ("shift",)

    def draw(self, random: np.random.Generator, shift: int) -> np.ndarray:
        """The window's (top, left) and whether it is mirrored, 0 or 1: [N, 3], uniform."""
        corners = super().draw(random, shift)
        return np.concatenate([corners, random.integers(0, 2, (len(self), 1))], 1)

    def batch(self, indices: np.ndarray, drawn: np.ndarray | None = None) -> Batch:
        """The windows of these images [B] at their rows of `draw`, or in the middle."""
        if drawn is None:
            return super().batch(indices)
        batch = super().batch(indices, drawn[:, :2])
        mirrored = drawn[:, 2, None, None, None] == 1
        return replace(batch, images=np.where(mirrored, batch.images[:, :, ::-1], batch.images))


def load(data_dir: Path | None) -> Dataset:
    """The data set; raises DataError where no whole copy is found."""
    dataset = cifar10.load(data_dir)
    return replace(
        dataset, name=DATASET.name, train=_bordered(dataset.train), test=_bordered(dataset.test)
    )


def _bordered(split: Split) -> Mirrored:
    sides = (0, 0), (BORDER, BORDER), (BORDER, BORDER), (0, 0)
    return Mirrored(np.pad(split.images, sides), split.labels, (cifar10.SIDE, cifar10.SIDE))


DATASET = replace(
    cifar10.DATASET,
    name="cifar10-32",
    title="CIFAR-10 at 32x32, for residual networks: 50,000 to train, 10,000 to test",
    shape=(cifar10.SIDE, cifar10.SIDE, cifar10.CHANNELS),
    load=load,
    look=lambda data_dir: Found(locate.look(cifar10.SOURCE, data_dir), 50_000, 10_000),
    frame=None,
)
