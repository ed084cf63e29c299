"""SVHN at twice its size, 64x64, as DeepCaps' authors take it."""

from dataclasses import replace
from pathlib import Path

from parity.data.sets import cifar10_64, svhn
from parity.data.splits import Dataset


def load(data_dir: Path | None) -> Dataset:
    """The data set; raises DataError as SVHN does."""
    return cifar10_64.doubled(svhn.load(data_dir), DATASET.name)


DATASET = replace(
    svhn.DATASET,
    name="svhn-64",
    title="SVHN at twice its size, for DeepCaps: 73,257 to train, 26,032 to test",
    shape=(64, 64, 3),
    load=load,
)
