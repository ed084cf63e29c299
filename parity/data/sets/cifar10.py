"""CIFAR-10: 60,000 colour photographs of ten classes, windows of 24x24.

The pickled batches ("python version") or the binary ones. The windows are the paper's: random in
training, the middle in evaluation. Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from parity.data import locate
from parity.data.crops import Cropped
from parity.data.formats import packed
from parity.data.registry import Entry, Found
from parity.data.splits import DataError, Dataset

SIDE, WINDOW, CHANNELS = 32, 24, 3
PIXELS = SIDE * SIDE * CHANNELS
CLASS_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
PICKLED = (
    locate.File("data_batch_1", 31_035_704, "c99cafc152244af753f735de768cd75f"),
    locate.File("data_batch_2", 31_035_320, "d4bba439e000b95fd0a9bffe97cbabec"),
    locate.File("data_batch_3", 31_035_999, "54ebc095f3ab1f0389bbae665268c751"),
    locate.File("data_batch_4", 31_035_696, "634d18415352ddfa80567beed471001a"),
    locate.File("data_batch_5", 31_035_623, "482c414d41f54cd18b22e5b47cb7c3cb"),
    locate.File("test_batch", 31_035_526, "40351d587109b95175f43aff81a1287e"),
)
BINARY = tuple(locate.File(f"{file.name}.bin", 10_000 * (1 + PIXELS), None) for file in PICKLED)
# What a pickled array refers to.
ARRAYS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
}
ARCHIVE = "cifar-10-python.tar.gz"

SOURCE = locate.Source(
    name="cifar10",
    files=PICKLED,
    folders=(
        "cifar-10-batches-py",
        "cifar-10-batches-py-target/cifar-10-batches-py",  # Keras 3
        "cifar-10-batches-bin",
        "cifar10",
        "",
    ),
    url="https://www.cs.toronto.edu/~kriz/",
    remote=(ARCHIVE,),
    archive=locate.Archive(
        ARCHIVE, lambda path: packed.tar(path, {file.name: file.size for file in SOURCE.files})
    ),
    others=(BINARY,),
)


def load(data_dir: Path | None) -> Dataset:
    """The data set; raises DataError where no whole copy is found."""
    copy = locate.find(SOURCE, data_dir)
    *train, test = (read(name, content) for name, content in copy.contents.items())
    splits = _split(train), _split([test])
    return Dataset("cifar10", *splits, len(CLASS_NAMES), CLASS_NAMES, copy.place)


def _split(batches: list[tuple[np.ndarray, np.ndarray]]) -> Cropped:
    images, labels = zip(*batches, strict=True)
    return Cropped(np.concatenate(images), np.concatenate(labels), (WINDOW, WINDOW))


def read(name: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 32, 32, 3] and labels of a batch, which stores planes of colour."""
    planes, labels = _binary(content) if name.endswith(".bin") else _pickled(content)
    images = planes.reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels


def _binary(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return rows[:, 1:], rows[:, 0]


class _Arrays(pickle.Unpickler):
    """Makes arrays, as NumPy 1 pickled them, and plain values; the files are known by their MD5."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in ARRAYS:
            raise DataError(f"cifar10: {module_name}.{global_name} in a file of arrays")
        return super().find_class(module_name.replace("numpy.core", "numpy._core"), global_name)


def _pickled(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    batch = _Arrays(io.BytesIO(content), encoding="bytes").load()
    return batch[b"data"], np.array(batch[b"labels"])


DATASET = Entry(
    name="cifar10",
    title="CIFAR-10, photographs of ten kinds of things: 50,000 to train, 10,000 to test",
    shape=(WINDOW, WINDOW, CHANNELS),
    classes=len(CLASS_NAMES),
    licence="none stated; cite Krizhevsky, Learning Multiple Layers of Features, 2009",
    source=f"a copy of torchvision, Keras or the batches, or a download from {SOURCE.url}",
    load=load,
    look=lambda data_dir: Found(locate.look(SOURCE, data_dir), 50_000, 10_000),
    class_names=CLASS_NAMES,
    frame=(SIDE, SIDE),
)
