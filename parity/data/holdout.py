"""Training images held out for validation, to choose by instead of the test set.

Axes: N training images, V of them held out.
"""

import dataclasses

import numpy as np

from parity.data._fingerprint import sha256
from parity.data.splits import DataError, Dataset, Split, alike
from parity.spec import TrainingSpec
from parity.weights import generator


def hold_out(dataset: Dataset, training: TrainingSpec) -> Dataset:
    """Moves `training.validation` images from training to a validation split.

    The data set stays as it is where none are asked for, or some are held out already. Raises
    DataError where a class would have none left to train on.
    """
    if not training.validation or dataset.validation is not None:
        return dataset
    places = drawn(dataset.train.labels, training.validation, training.seed)
    rest = np.setdiff1d(np.arange(len(dataset.train)), places)
    return alike(
        dataset,
        train=subset(dataset.train, rest),
        validation=subset(dataset.train, places),
        held_out=sha256(places, "<i8"),
    )


def drawn(labels_N: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The places [V] of `count` images, each class by its share, drawn by the seed."""
    classes, sizes = np.unique(labels_N, return_counts=True)
    # Shares add up to the count: whole parts, then one more for the largest remainders.
    exact = count * sizes / len(labels_N)
    shares = np.floor(exact).astype(int)
    largest = np.argsort(shares - exact, kind="stable")
    shares[largest[: count - shares.sum()]] += 1
    if (shares >= sizes).any():
        raise DataError(
            f"validation is {count} of {len(labels_N):,} training images, which leaves none of "
            f"class {classes[(shares >= sizes).argmax()]} to train on; expected fewer"
        )
    random = generator(seed, "validation")
    parts = [
        random.permutation(np.flatnonzero(labels_N == label))[:share]
        for label, share in zip(classes, shares, strict=True)
    ]
    return np.sort(np.concatenate(parts))


def subset(split: Split, places: np.ndarray) -> Split:
    """The images at these places, as a split of the same kind."""
    return dataclasses.replace(split, images=split.images[places], labels=split.labels[places])
