"""The start of MNIST, 5,000 + 1,000 images, inside the package: the default.

They lie beside this file in mnist_mini.npz. `python -m parity.data.sets.mnist_mini DIR` writes it
again from a copy of MNIST in DIR: the same arrays always, the same bytes with the same zlib.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np

from parity.data.formats import packed
from parity.data.registry import Entry, Found
from parity.data.sets import mnist
from parity.data.splits import DataError, Dataset, Split

FILE = Path(__file__).with_name("mnist_mini.npz")
TRAIN, TEST = 5_000, 1_000
KEYS = ("train_images", "train_labels", "test_images", "test_labels")
SHA256 = "c8b2a51eb4acacb4295b546b7e32649aa90b0999afce352ef91e29944d66cd8c"


def load(path: Path = FILE) -> Dataset:
    """The data set; raises DataError where the file was altered."""
    arrays = packed.npz(path, KEYS)
    sha256 = digest(arrays)
    if sha256 != SHA256:
        raise DataError(
            f"{path}: its arrays have SHA-256 {sha256}, expected {SHA256}; install twincaps again"
        )
    train = Split(arrays["train_images"], arrays["train_labels"])
    test = Split(arrays["test_images"], arrays["test_labels"])
    return Dataset("mnist-mini", train, test, classes=10, place=path)


def digest(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes."""
    total = hashlib.sha256()
    for key in KEYS:
        total.update(f"{key} {arrays[key].dtype} {arrays[key].shape} ".encode())
        total.update(np.ascontiguousarray(arrays[key]).tobytes())
    return total.hexdigest()


def rebuild(data_dir: Path, path: Path = FILE) -> None:
    """Writes mnist_mini.npz from a copy of MNIST."""
    whole = mnist.DATASET.load(data_dir)
    arrays = {
        "train_images": whole.train.images[:TRAIN],
        "train_labels": whole.train.labels[:TRAIN].astype(np.uint8),
        "test_images": whole.test.images[:TEST],
        "test_labels": whole.test.labels[:TEST].astype(np.uint8),
    }
    np.savez_compressed(path, **arrays)


DATASET = Entry(
    name="mnist-mini",
    title="the start of MNIST, handwritten digits: 5,000 to train, 1,000 to test",
    shape=(28, 28, 1),
    classes=10,
    licence=mnist.DATASET.licence,
    source="comes with twincaps",
    load=lambda data_dir: load(),
    look=lambda data_dir: Found(FILE, TRAIN, TEST),
    fit="digit",
    # Few images want more and larger steps than the paper's recipe.
    recipe={"epochs": 3, "batch_size": 32, "learning_rate": 2e-3, "decay_steps": 10},
)

if __name__ == "__main__":
    rebuild(Path(sys.argv[1]))
