"""Fashion-MNIST: 70,000 pictures of clothes in the files and sizes of MNIST."""

import dataclasses
from pathlib import Path

from parity.data import locate
from parity.data.registry import Entry, Found
from parity.data.sets import mnist
from parity.data.splits import Dataset

CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip

SOURCE = locate.Source(
    name="fashion-mnist",
    files=mnist.files(
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
    folders=("fashion-mnist", "FashionMNIST/raw", "raw", ""),
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    remote=mnist.SOURCE.remote,
)


def load(data_dir: Path | None) -> Dataset:
    """The data set in `data_dir`, or where `locate` finds it."""
    return dataclasses.replace(mnist.read(SOURCE, data_dir), class_names=CLASSES)


DATASET = Entry(
    name="fashion-mnist",
    title="Fashion-MNIST, ten kinds of clothes: 60,000 to train, 10,000 to test",
    shape=(28, 28, 1),
    classes=10,
    licence="MIT, (c) Zalando SE",
    source=f"a copy of torchvision, Keras, Debian or the files, or a download from {SOURCE.url}",
    load=load,
    look=lambda data_dir: Found(locate.look(SOURCE, data_dir), 60_000, 10_000),
    class_names=CLASSES,
    fit="garment",
)
