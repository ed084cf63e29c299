"""CIFAR-10 at twice its size, 64x64, as DeepCaps' authors take it; no windows."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from parity.data import locate
from parity.data.registry import Found
from parity.data.sets import cifar10
from parity.data.splits import Dataset, Split
from parity.reference.convolution import double_size


@dataclass(frozen=True, eq=False, repr=False)
class Doubled(Split):
    """Images that a network sees at twice their size, made when they are asked for.

    Bilinear between pixel centres, as the authors' SciPy resizes, in float32 and not rounded to
    bytes.
    """

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels of the images that `batch` makes."""
        height, width, channels = super().shape
        return 2 * height, 2 * width, channels

    def pixels(self, images: np.ndarray) -> np.ndarray:
        """Stored images at twice their size: float32 in [0, 1]."""
        return double_size(super().pixels(images)).astype(np.float32)


def doubled(dataset: Dataset, name: str) -> Dataset:
    """A data set of the same images at twice their size, under this name."""
    train, test = (Doubled(split.images, split.labels) for split in (dataset.train, dataset.test))
    return replace(dataset, name=name, train=train, test=test)


def load(data_dir: Path | None) -> Dataset:
    """The data set; raises DataError where no whole copy of CIFAR-10 is found."""
    return doubled(cifar10.load(data_dir), DATASET.name)


DATASET = replace(
    cifar10.DATASET,
    name="cifar10-64",
    title="CIFAR-10 at twice its size, for DeepCaps: 50,000 to train, 10,000 to test",
    shape=(2 * cifar10.SIDE, 2 * cifar10.SIDE, cifar10.CHANNELS),
    load=load,
    look=lambda data_dir: Found(locate.look(cifar10.SOURCE, data_dir), 50_000, 10_000),
    frame=None,
)
