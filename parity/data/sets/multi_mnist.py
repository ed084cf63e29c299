"""MultiMNIST: two overlapping digits of different classes, made from MNIST.

As in the paper and its authors' code: each digit is shifted by up to 4 pixels in each direction
and the two are added, cut at 255. Theirs pairs each digit with 1,000 others, once; here (ours) an
epoch has one pair for each digit, with a partner and shifts drawn for that epoch, and each test
digit has one partner, the same in every run.

With the augmentation "efficient", as Efficient-CapsNet's authors train: shifts of up to 6 pixels,
and a partner may be another digit of the same class. Their target is then 2, ours is 1. The test
pairs stay the same, of two classes and with shifts of up to 4; theirs reach 6.

Axes: B pairs of a batch, H W C an image, J classes.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from parity.data.registry import Entry
from parity.data.sets import mnist
from parity.data.splits import Batch, DataError, Dataset, Split, pixels
from parity.data.windows import translate
from parity.weights import generator

EDGE = 4  # the largest shift, and the border that makes room for it: 28 + 2 * 4 = 36
REACH = {"shift": EDGE, "efficient": 6}  # of MNIST's digits, only the empty border is lost
CLASSES = 10


@dataclass(frozen=True, eq=False, repr=False)
class PairBatch(Batch):
    """A batch of pairs: labels 0/1 [B, J], and the two digits of each.

    A pair of one class has a single one.

    Attributes:
        digits: int64 [B, 2]: the class of each of the two.
        parts: float32 [B, 2, H, W, C]: each alone, where it lies in the picture.
    """

    digits: np.ndarray
    parts: np.ndarray

    @property
    def made_of(self) -> tuple[np.ndarray, np.ndarray]:
        """The digits [B, 2] and each of them alone, [B, 2, H, W, C]."""
        return self.digits, self.parts


@dataclass(frozen=True, eq=False, repr=False)
class Pairs(Split):
    """Each digit of a split with a partner of another class.

    A row of `draw` is a number that chooses the partner, and (down, right) of either digit; a
    run's `shift` is not used. `fixed` are the rows of evaluation. `by_class` lists the digits
    class by class: those a digit may be paired with are all but one stretch of it.
    """

    name: str
    fixed: np.ndarray = field(init=False)
    by_class: np.ndarray = field(init=False)

    augmentations: ClassVar[tuple[str, ...]] = ("shift", "efficient")

    def __post_init__(self) -> None:
        super().__post_init__()
        assert self.images.dtype == np.uint8
        if len(np.unique(self.labels)) < 2:
            raise DataError(f"{self.name}: all digits are of one class; expected at least two")
        object.__setattr__(self, "by_class", np.argsort(self.labels, kind="stable"))
        object.__setattr__(self, "fixed", self._rows(generator(0, self.name), EDGE))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels of a picture: a digit's, with its border."""
        height, width, channels = self.images.shape[1:]
        return height + 2 * EDGE, width + 2 * EDGE, channels

    def draw(self, random: np.random.Generator, shift: int) -> np.ndarray:
        """Rows of (partner, down, right, down, right), [N, 5]; ignores `shift`."""
        return self._rows(random, REACH[self.augment])

    def _rows(self, random: np.random.Generator, reach: int) -> np.ndarray:
        partners = random.integers(0, 2**62, (len(self), 1))
        return np.hstack([partners, random.integers(-reach, reach, (len(self), 4), endpoint=True)])

    def batch(self, indices: np.ndarray, drawn: np.ndarray | None = None) -> PairBatch:
        """The pairs of these digits [B], by rows of `draw` or those of evaluation."""
        any_class = drawn is not None and self.augment == "efficient"
        drawn = self.fixed[indices] if drawn is None else drawn
        partners = self._others if any_class else self._partners
        pairs = np.stack([indices, partners(indices, drawn[:, 0])])
        border = ((0, 0), (EDGE, EDGE), (EDGE, EDGE), (0, 0))
        first, second = (
            translate(np.pad(self.images[places], border), offsets)
            for places, offsets in zip(pairs, (drawn[:, 1:3], drawn[:, 3:5]), strict=True)
        )
        merged = np.minimum(first.astype(np.uint16) + second, 255).astype(np.uint8)
        digits = self.labels[pairs].T
        return PairBatch(
            pixels(merged),
            np.eye(CLASSES, dtype=np.int64)[digits].max(1),
            np.ones(len(indices), np.float32),
            digits,
            pixels(np.stack([first, second], 1)),
        )

    def _partners(self, indices: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """A digit of another class for each of `indices`, uniform over all there are."""
        counts = np.bincount(self.labels, minlength=CLASSES)
        starts = np.cumsum(counts) - counts
        own = self.labels[indices]
        places = numbers % (len(self) - counts[own])
        return self.by_class[places + np.where(places < starts[own], 0, counts[own])]

    def _others(self, indices: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Another digit for each of `indices`, of any class, uniform over all there are."""
        return (indices + 1 + numbers % (len(self) - 1)) % len(self)


def load(data_dir: Path | None) -> Dataset:
    """The data set, from a copy of MNIST; raises DataError where there is none."""
    whole = mnist.DATASET.load(data_dir)
    train, test = (
        Pairs(split.images, split.labels, f"multi-mnist/{which}")
        for which, split in (("train", whole.train), ("test", whole.test))
    )
    return Dataset("multi-mnist", train, test, CLASSES, place=whole.place)


DATASET = Entry(
    name="multi-mnist",
    title="MultiMNIST, two overlapping digits: 60,000 pairs an epoch, 10,000 to test",
    shape=(36, 36, 1),
    classes=CLASSES,
    licence=mnist.DATASET.licence,
    source="made from MNIST",
    load=load,
    look=mnist.look,
    things=2,
    fit="digits",
)
