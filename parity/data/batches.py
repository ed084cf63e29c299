"""The order of batches and augmentation, the same in both wings and any resume."""

from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np

from parity.data.splits import Batch, DataError, Split
from parity.spec import TrainingSpec
from parity.weights import generator


def per_epoch(split: Split, training: TrainingSpec) -> int:
    """Whole batches in an epoch; raises DataError where there is not one."""
    augmented(split, training)
    count = len(split) // training.batch_size
    if count == 0:
        raise DataError(
            f"a batch of {training.batch_size} is larger than the {len(split)} training images; "
            f"use a batch size of at most {len(split)}"
        )
    return count


def augmented(split: Split, training: TrainingSpec) -> Split:
    """The split with the augmentation of a training; raises DataError where it has none such."""
    same = split.augment == training.augment
    return split if same else replace(split, augment=training.augment)


def training(
    split: Split,
    training: TrainingSpec,
    epoch: int,
    start: int = 0,
    rows: slice = slice(None),
) -> Iterator[Batch]:
    """The batches of an epoch from number `start` on: shuffled, augmented, equal.

    The order, and what is random about the image at a place in it, depend on (seed, epoch, place)
    alone, so `start` batches may be skipped without making them. The last partial one is dropped.
    Of each batch only the images of `rows` are made.
    """
    split = augmented(split, training)
    count = per_epoch(split, training)
    if not 0 <= start <= count:
        raise DataError(
            f"batch {start} of epoch {epoch} is asked for, but there are {count} batches of "
            f"{training.batch_size} in {len(split)} images; use the batch size the run began with"
        )
    order = generator(training.seed, f"order/{epoch}").permutation(len(split))
    drawn = split.draw(generator(training.seed, f"augment/{epoch}"), training.shift)
    places = (
        slice(n * training.batch_size, (n + 1) * training.batch_size) for n in range(start, count)
    )
    return (split.batch(order[place][rows], drawn[place][rows]) for place in places)


def evaluation(split: Split, batch_size: int, rows: slice = slice(None)) -> Iterator[Batch]:
    """Every image once, in order, not augmented; padding has weight 0.

    Of each batch only the images of `rows` are made.
    """
    if batch_size < 1:
        raise DataError(f"the batch size is {batch_size}; expected a whole number above 0")
    firsts = range(0, len(split), batch_size)
    indices = (np.arange(first, min(first + batch_size, len(split))) for first in firsts)
    size = len(range(batch_size)[rows])
    return (_padded(split.batch(places[rows]), size) for places in indices)


def _padded(batch: Batch, size: int) -> Batch:
    missing = size - len(batch.weights)
    if missing == 0:
        return batch

    def longer(array: np.ndarray) -> np.ndarray:
        return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))

    return type(batch)(*(longer(getattr(batch, field.name)) for field in fields(batch)))
