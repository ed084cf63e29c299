"""Fingerprints of data sets: what a network is trained on, and what changed."""

import hashlib

import numpy as np

from parity.data.splits import Dataset, Split
from parity.spec import Sample, TrainedOn

SAMPLE = 64  # images of a split whose pixels are looked at


def fingerprint(dataset: Dataset) -> TrainedOn:
    """What a run and its weights files hold of the data set that they are trained on."""
    return TrainedOn(
        dataset=dataset.name,
        fit=dataset.fit,
        frame=dataset.frame,
        things=dataset.things,
        class_names=tuple(dataset.class_names),
        train=sample(dataset.train),
        test=sample(dataset.test),
        validation=dataset.held_out,
    )


def sample(split: Split) -> Sample:
    """The count, the labels and a sample of the pixels of a split, as checksums.

    The pixels are those of `SAMPLE` images spread evenly over it.
    """
    places = np.unique(np.linspace(0, len(split) - 1, SAMPLE).astype(int))
    pixels = split.batch(places).images
    return Sample(len(split), sha256(split.labels, "<i8"), sha256(pixels, "<f4"))


def sha256(array: np.ndarray, dtype: str) -> str:
    """Of an array's numbers in C order, in this dtype."""
    return hashlib.sha256(np.ascontiguousarray(array, dtype).tobytes()).hexdigest()


def changed(before: Sample | None, now: Sample | None, which: str) -> str:
    """How a split differs from what it was, in words; "" if equal or unknown."""
    if before is None or now is None or before == now:
        return ""
    if before.count != now.count:
        return f"{before.count:,} {which} images then, {now.count:,} now"
    return f"other {'labels' if before.labels != now.labels else 'pixels'} of {which} images"


def renamed(before: TrainedOn, now: TrainedOn) -> str:
    """How the names of the classes differ, in words; "" if equal or unknown."""
    if not before.class_names or not now.class_names or before.class_names == now.class_names:
        return ""
    pairs = zip(before.class_names, now.class_names, strict=False)
    moved = [f"{n}: {a!r} then, {b!r} now" for n, (a, b) in enumerate(pairs) if a != b]
    counts = len(before.class_names), len(now.class_names)
    if counts[0] != counts[1]:
        moved.append(f"{counts[0]} classes then, {counts[1]} now")
    return "; ".join(moved[:5]) + "; ..." * (len(moved) > 5)
