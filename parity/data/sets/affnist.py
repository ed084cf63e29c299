"""affNIST: trained on MNIST placed at random on 40x40, tested on affine maps.

The test the paper reports 79 % in (a CNN 66 %): the 320,000 images of affNIST's test.mat, each an
MNIST test digit rotated, sheared, scaled and moved, never seen in training. Source:
https://www.cs.toronto.edu/~tijmen/affNIST/
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from parity.data import locate
from parity.data.formats import matlab, packed
from parity.data.registry import Entry, Found
from parity.data.sets import mnist
from parity.data.splits import DataError, Dataset, Split, check_labels

SIDE, EDGE = 40, 6  # 28 + 2 * 6 = 40
TEST = "test.mat"
SOURCE = locate.Source(
    name="affnist",
    files=(locate.File(TEST, None, None),),
    folders=("affnist", "affNIST", "affnist/transformed", "affNIST/transformed", ""),
    url="https://www.cs.toronto.edu/~tijmen/affNIST/32x/transformed/",
    remote=(f"{TEST}.zip",),
    archive=locate.Archive(f"{TEST}.zip", lambda path: packed.zipped(path, {TEST})),
)


@dataclass(frozen=True, eq=False, repr=False)
class Placed(Split):
    """Digits with a border of `EDGE`, over all of which training moves them."""

    augmentations: ClassVar = ("shift",)  # the test is of maps that training never shows

    def draw(self, random: np.random.Generator, shift: int) -> np.ndarray:
        """(down, right) of each digit, [N, 2], from -EDGE to EDGE; ignores `shift`."""
        return super().draw(random, EDGE)


def placed(split: Split) -> Placed:
    """The digits of a split of MNIST in the middle of 40x40."""
    border = ((0, 0), (EDGE, EDGE), (EDGE, EDGE), (0, 0))
    return Placed(np.pad(split.images, border), split.labels)


def load(data_dir: Path | None) -> Dataset:
    """The data set; raises DataError without its files, MNIST's, or SciPy."""
    copy = locate.find(SOURCE, data_dir)
    train = placed(mnist.DATASET.load(data_dir).train)
    test = tested(copy.contents[TEST])
    return Dataset("affnist", train, test, classes=10, place=copy.place)


def look(data_dir: Path | None) -> Found:
    """Where affNIST's test images are, if MNIST is there too."""
    place, train = locate.look(SOURCE, data_dir), mnist.look(data_dir).train
    return Found(place, train, 320_000)


def tested(content: bytes) -> Split:
    """Images, stored [1600, N], and label_int [1, N] of the struct affNISTdata."""
    what = f"affnist: {TEST}"
    struct = matlab.loads(content, what).get("affNISTdata")
    if struct is None or not {"image", "label_int"} <= set(struct.dtype.names or ()):
        raise DataError(f"{what}: expected a struct affNISTdata with image and label_int")
    images, labels = (_field(struct, name, what) for name in ("image", "label_int"))
    if images.ndim != 2 or len(images) != SIDE * SIDE:
        raise DataError(f"{what}: image has shape {images.shape}; expected ({SIDE * SIDE}, N)")
    images = np.ascontiguousarray(images.T).reshape(-1, SIDE, SIDE, 1)
    return Split(images, check_labels(labels.reshape(-1), len(images), f"{what}: label_int"))


def _field(struct: np.ndarray, name: str, what: str) -> np.ndarray:
    if struct.size != 1:
        raise DataError(f"{what}: affNISTdata has shape {struct.shape}; expected one struct")
    return np.asarray(struct[name].reshape(-1)[0])


DATASET = Entry(
    name="affnist",
    title="affNIST: 60,000 digits placed at random to train, 320,000 under affine maps to test",
    shape=(SIDE, SIDE, 1),
    classes=10,
    licence="none stated; made from MNIST by Tijmen Tieleman",
    source=f"MNIST, and a copy of {TEST} or a download from {SOURCE.url}",
    load=load,
    look=look,
    recipe={"augment": "shift"},  # digits are placed at random already
)
