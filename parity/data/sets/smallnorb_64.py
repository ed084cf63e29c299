"""smallNORB as Efficient-CapsNet's authors bring it to 64x64; windows of 48x48.

Bilinear between pixel centres, without antialiasing, as TensorFlow resizes; ours is rounded to
whole bytes. Training sees random windows, and evaluation the middle one.
"""

import dataclasses
from pathlib import Path

import numpy as np

from parity.data.sets import smallnorb
from parity.data.splits import Dataset

SIDE, WINDOW = 64, 48
BLOCK = 1000  # pairs resized at a time: 80 MB


def load(data_dir: Path | None) -> Dataset:
    """The data set; raises DataError where no whole copy of smallNORB is found."""
    return smallnorb.read(data_dir, "smallnorb-64", resized, WINDOW)


def resized(pairs: np.ndarray) -> np.ndarray:
    """uint8 [N, 2, 96, 96] -> [N, 64, 64, 2]."""
    images = np.empty((len(pairs), SIDE, SIDE, 2), np.uint8)
    for first in range(0, len(pairs), BLOCK):
        block = pairs[first : first + BLOCK].astype(np.uint16)
        sixteenths = _two_of_three(_two_of_three(block, 2), 3)
        images[first : first + BLOCK] = ((sixteenths + 8) // 16).transpose(0, 2, 3, 1)
    return images


def _two_of_three(x: np.ndarray, axis: int) -> np.ndarray:
    """Four times the two pixels that stand for each three: 3a + b, and b + 3c."""
    shape = (*x.shape[:axis], -1, 3, *x.shape[axis + 1 :])
    a, b, c = np.moveaxis(x.reshape(shape), axis + 1, 0)
    pairs = np.stack([3 * a + b, b + 3 * c], axis + 1)
    return pairs.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])


DATASET = dataclasses.replace(
    smallnorb.DATASET,
    name="smallnorb-64",
    title="smallNORB at 64x64, as Efficient-CapsNet takes it: 24,300 to train, 24,300 to test",
    shape=(WINDOW, WINDOW, 2),
    load=load,
    frame=(SIDE, SIDE),
)
