"""smallNORB: 48,600 grey stereo pairs of five kinds of toys, windows of 32x32.

As in the capsule papers, the pair is two channels, brought to 48x48 (here by the mean of 2x2
pixels), of which training sees random windows and evaluation the middle one. The training and
test toys are different ones. Source: https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/
"""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from parity.data import locate
from parity.data.crops import Cropped
from parity.data.registry import Entry, Found
from parity.data.splits import Dataset

TYPES = {0x1E3D4C55: "<u1", 0x1E3D4C54: "<i4"}  # 507333717, 507333716
WINDOW = 32
CLASS_NAMES = ("animal", "human", "airplane", "truck", "car")
TRAINING = "smallnorb-5x46789x9x18x6x2x96x96-training"
TESTING = "smallnorb-5x01235x9x18x6x2x96x96-testing"
FILES = (
    locate.File(f"{TRAINING}-dat.mat", 447_897_624, "8138a0902307b32dfa0025a36dfa45ec"),
    locate.File(f"{TRAINING}-cat.mat", 97_220, "fd5120d3f770ad57ebe620eb61a0b633"),
    locate.File(f"{TESTING}-dat.mat", 447_897_624, "e9920b7f7b2869a8f1a12e945b2c166c"),
    locate.File(f"{TESTING}-cat.mat", 97_220, "fd5120d3f770ad57ebe620eb61a0b633"),
)
SOURCE = locate.Source(
    name="smallnorb",
    files=FILES,
    folders=("smallnorb", "smallNORB", "smallnorb/raw", "raw", ""),
    url="https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/",
    remote=tuple(f"{file.name}.gz" for file in FILES),
)


def load(data_dir: Path | None) -> Dataset:
    """The data set; raises DataError where no whole copy is found."""
    return read(data_dir, "smallnorb", halved, WINDOW)


def read(
    data_dir: Path | None, name: str, resized: Callable[[np.ndarray], np.ndarray], window: int
) -> Dataset:
    """A data set of windows of the pairs; raises DataError where no whole copy is found.

    Args:
        data_dir: Where to look first.
        name: Of the data set.
        resized: Makes uint8 images [N, H, W, 2] of the pairs, uint8 [N, 2, 96, 96].
        window: Height and width of a window.
    """
    copy = locate.find(SOURCE, data_dir)

    def split(which: str) -> Cropped:
        pairs, labels = (
            parse(copy.contents.pop(name)) for name in (f"{which}-dat.mat", f"{which}-cat.mat")
        )
        return Cropped(resized(pairs), labels, (window, window))

    splits = split(TRAINING), split(TESTING)
    return Dataset(name, *splits, len(CLASS_NAMES), CLASS_NAMES, copy.place)


def parse(content: bytes) -> np.ndarray:
    """The array in a file that is known to be whole, by its MD5.

    Little-endian: a magic number, the number of axes, at least 3 sizes, the data.
    """
    magic, axes = struct.unpack("<ii", content[:8])
    shape = struct.unpack(f"<{axes}i", content[8 : 8 + 4 * axes])
    return np.frombuffer(content, TYPES[magic], offset=8 + 4 * max(3, axes)).reshape(shape)


def halved(pairs: np.ndarray) -> np.ndarray:
    """uint8 [N, 2, H, W] -> [N, H/2, W/2, 2]: the rounded means of 2x2 pixels."""
    total = np.full((len(pairs), 2, pairs.shape[2] // 2, pairs.shape[3] // 2), 2, np.uint16)
    for down in (0, 1):
        for right in (0, 1):
            total += pairs[:, :, down::2, right::2]
    return np.ascontiguousarray((total // 4).astype(np.uint8).transpose(0, 2, 3, 1))


DATASET = Entry(
    name="smallnorb",
    title="smallNORB, stereo pairs of five kinds of toys: 24,300 to train, 24,300 to test",
    shape=(WINDOW, WINDOW, 2),
    classes=len(CLASS_NAMES),
    licence="for research purposes, not to be sold; cite LeCun, Huang, Bottou, CVPR 2004",
    source=f"the four -dat and -cat files, or a download from {SOURCE.url}",
    load=load,
    look=lambda data_dir: Found(locate.look(SOURCE, data_dir), 24_300, 24_300),
    class_names=CLASS_NAMES,
    frame=(48, 48),
)
