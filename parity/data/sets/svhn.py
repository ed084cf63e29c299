"""SVHN: 99,289 digits of house numbers, cut out of photographs, 32x32, in colour.

Of the three parts, `extra` is not used. Source: http://ufldl.stanford.edu/housenumbers/
"""

from pathlib import Path

import numpy as np

from parity.data import locate
from parity.data.formats import matlab
from parity.data.registry import Entry, Found
from parity.data.splits import Dataset, Split

TRAIN, TEST = "train_32x32.mat", "test_32x32.mat"
SOURCE = locate.Source(
    name="svhn",
    files=(
        locate.File(TRAIN, 182_040_794, "e26dedcc434d2e4c54c9b2d4a06d8373"),
        locate.File(TEST, 64_275_384, "eb5a983be6a315427106f1b164d9cef3"),
    ),
    folders=("svhn", "SVHN", ""),
    url="http://ufldl.stanford.edu/housenumbers/",
    remote=(TRAIN, TEST),
)


def load(data_dir: Path | None) -> Dataset:
    """The data set; raises DataError without a whole copy, or without SciPy."""
    copy = locate.find(SOURCE, data_dir)
    train, test = (split(copy.contents[name], f"svhn: {name}") for name in (TRAIN, TEST))
    return Dataset("svhn", train, test, classes=10, place=copy.place)


def split(content: bytes, what: str) -> Split:
    """Images X, stored [H, W, C, N], and labels y [N, 1], where 10 means 0."""
    variables = matlab.loads(content, what)
    images = np.ascontiguousarray(variables["X"].transpose(3, 0, 1, 2))
    return Split(images, variables["y"].reshape(-1) % 10)


DATASET = Entry(
    name="svhn",
    title="SVHN, digits of house numbers in photographs: 73,257 to train, 26,032 to test",
    shape=(32, 32, 3),
    classes=10,
    licence="for non-commercial use; cite Netzer et al., NIPS workshop 2011",
    source=f"a copy of torchvision or the two .mat files, or a download from {SOURCE.url}",
    load=load,
    look=lambda data_dir: Found(locate.look(SOURCE, data_dir), 73_257, 26_032),
)
