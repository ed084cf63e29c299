"""affNIST's task made from MNIST alone: tested on affine maps of its digits.

Each test digit is mapped once, the same in every run: scaled by 0.8 to 1.2 along either axis,
sheared by -0.2 to 0.2, rotated by -20 to 20 degrees, all about the middle, and moved to where all
its ink stays in the picture; each number is uniform. Ranges and making are ours, chosen to be of
affNIST's kind: a score on it is never one on affNIST.

Axes: N images, H W an image, P pixels of one; points are (down, right).
"""

from pathlib import Path

import numpy as np

from parity.data.registry import Entry
from parity.data.sets import mnist
from parity.data.sets.affnist import SIDE, placed
from parity.data.splits import Dataset, Split
from parity.weights import generator

SCALE, SHEAR, DEGREES = (0.8, 1.2), 0.2, 20.0
BLOCK = 500  # images mapped at a time: 40 MB


def load(data_dir: Path | None) -> Dataset:
    """The data set, from a copy of MNIST; raises DataError where there is none."""
    whole = mnist.DATASET.load(data_dir)
    test = Split(mapped(whole.test.images), whole.test.labels)
    return Dataset("affnist-like", placed(whole.train), test, classes=10, place=whole.place)


def mapped(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 1] -> [N, 40, 40, 1], the n-th under the n-th affine map."""
    random = generator(0, "affnist-like/test")
    maps = linear_maps(random, len(images))
    places = random.uniform(0, 1, (len(images), 2))
    blocks = [slice(first, first + BLOCK) for first in range(0, len(images), BLOCK)]
    return np.concatenate([_mapped(images[b, ..., 0], maps[b], places[b]) for b in blocks])


def linear_maps(random: np.random.Generator, count: int) -> np.ndarray:
    """[N, 2, 2]: rotation * shear * scale, of points (down, right) about the middle."""
    scale = random.uniform(*SCALE, (count, 2))
    shear = random.uniform(-SHEAR, SHEAR, count)
    angle = np.radians(random.uniform(-DEGREES, DEGREES, count))
    one, zero, cos, sin = np.ones(count), np.zeros(count), np.cos(angle), np.sin(angle)
    rotations = np.stack([cos, -sin, sin, cos], 1).reshape(-1, 2, 2)
    shears = np.stack([one, zero, shear, one], 1).reshape(-1, 2, 2)
    return rotations @ shears @ (scale[:, :, None] * np.eye(2))


def _mapped(images: np.ndarray, maps: np.ndarray, places: np.ndarray) -> np.ndarray:
    middle = (np.array(images.shape[1:]) - 1) / 2
    low, high = _extent(images, maps, middle)
    free = np.maximum(SIDE - 1 - (high - low), 0)
    targets = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), -1)
    relative = targets.reshape(-1, 2) - (free * places - low)[:, None]
    points = np.einsum("nij,npj->npi", np.linalg.inv(maps), relative) + middle
    return np.rint(bilinear(images, points)).astype(np.uint8).reshape(-1, SIDE, SIDE, 1)


def _extent(images: np.ndarray, maps: np.ndarray, middle: np.ndarray) -> tuple:
    """Lowest and highest (down, right), [N, 2], of each mapped box of ink."""
    ends = []
    for axis in (2, 1):
        inked = np.any(images, axis=axis)
        first = inked.argmax(1)
        last = inked.shape[1] - 1 - inked[:, ::-1].argmax(1)
        ends.append((first - 1, last + 1))  # a pixel's ink fades out over the next one
    (top, bottom), (left, right) = ends
    corners = [
        np.stack(pair, 1) for pair in ((top, left), (top, right), (bottom, left), (bottom, right))
    ]
    mapped = np.einsum("nij,npj->npi", maps, np.stack(corners, 1) - middle)
    return mapped.min(1), mapped.max(1)


def bilinear(images: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear values [N, P] of images [N, H, W], 0 outside, at points [N, P, 2]."""
    height, width = images.shape[1:]
    padded = np.pad(images, ((0, 0), (1, 2), (1, 2))).astype(np.float64)
    points = np.clip(points, -1, (height, width)) + 1
    corner = np.floor(points).astype(np.int64)
    (down, right), (row, column) = (np.moveaxis(pair, -1, 0) for pair in (points - corner, corner))
    n = np.arange(len(images))[:, None]
    above = padded[n, row, column] * (1 - right) + padded[n, row, column + 1] * right
    below = padded[n, row + 1, column] * (1 - right) + padded[n, row + 1, column + 1] * right
    return above * (1 - down) + below * down


DATASET = Entry(
    name="affnist-like",
    title="affNIST's task from MNIST: 60,000 digits to train, 10,000 under affine maps to test",
    shape=(SIDE, SIDE, 1),
    classes=10,
    licence=mnist.DATASET.licence,
    source="made from MNIST",
    load=load,
    look=mnist.look,
    recipe={"augment": "shift"},  # digits are placed at random already
)
