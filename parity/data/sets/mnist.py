"""MNIST: 70,000 handwritten digits, 28x28, grey."""

from pathlib import Path

from parity.data import locate
from parity.data.formats import idx, packed
from parity.data.registry import Entry, Found
from parity.data.splits import Dataset, Split

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
SIZES = (47_040_016, 60_008, 7_840_016, 10_008)


def files(*md5s: str) -> tuple[locate.File, ...]:
    """The four files of MNIST, or of a set made like it, with the MD5 of each."""
    return tuple(locate.File(*row) for row in zip(NAMES, SIZES, md5s, strict=True))


def look(data_dir: Path | None) -> Found:
    """Where a copy of MNIST is, and what is in it."""
    return Found(locate.look(SOURCE, data_dir), 60_000, 10_000)


def keras_npz(path: Path) -> locate.Contents:
    """The content of the four files from Keras's mnist.npz, which holds the same."""
    arrays = packed.npz(path, ("x_train", "y_train", "x_test", "y_test"))
    return {name: idx.dump(array) for name, array in zip(NAMES, arrays.values(), strict=True)}


def read(source: locate.Source, data_dir: Path | None) -> Dataset:
    """A data set of ten classes in the four files of MNIST."""
    copy = locate.find(source, data_dir)
    arrays = [idx.parse(copy.contents[name]) for name in NAMES]
    train_images, train_labels, test_images, test_labels = arrays
    train = Split(train_images[..., None], train_labels)
    test = Split(test_images[..., None], test_labels)
    return Dataset(source.name, train, test, classes=10, place=copy.place)


SOURCE = locate.Source(
    name="mnist",
    files=files(
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    folders=("mnist", "MNIST/raw", "raw", ""),
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    remote=tuple(f"{name}.gz" for name in NAMES),
    archive=locate.Archive("mnist.npz", keras_npz),
)

DATASET = Entry(
    name="mnist",
    title="MNIST, handwritten digits: 60,000 to train, 10,000 to test",
    shape=(28, 28, 1),
    classes=10,
    licence="CC BY-SA 3.0, (c) Yann LeCun and Corinna Cortes",
    source=f"a copy of torchvision, Keras or the four files, or a download from {SOURCE.url}",
    load=lambda data_dir: read(SOURCE, data_dir),
    look=look,
    fit="digit",
    stand_in="mnist-mini",
)
