"""The files of data sets: IDX, smallNORB, CIFAR-10, .mat, .npz, archives."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from fuzz.mutate import inside_gzip, inside_zip
from fuzz.reader import Reader, any_result
from parity.data.formats import idx, packed
from parity.data.sets import affnist, cifar10, mnist_mini, smallnorb, svhn

NORB = {"u1": 0x1E3D4C55, "i4": 0x1E3D4C54}
MEMBERS = {"data_batch_1": 300, "test_batch": 300}


def _contents(*contents: bytes) -> Callable[[Path], list[bytes]]:
    return lambda folder: list(contents)


def _random(shape: tuple[int, ...], dtype: str = "u1") -> np.ndarray:
    return np.random.default_rng(7).integers(0, 9, shape).astype(dtype)


def norb(dtype: str, *shape: int) -> bytes:
    """A file of smallNORB: its header has room for three sizes at least."""
    sizes = (*shape, 1, 1)[: max(3, len(shape))]
    header = struct.pack(f"<{2 + len(sizes)}i", NORB[dtype], len(shape), *sizes)
    return header + _random(shape, dtype).tobytes()


def cifar_pickles() -> list[bytes]:
    held = {b"data": _random((2, 3072)), b"labels": [3, 1], b"filenames": [b"a.png", b"b.png"]}
    return [pickle.dumps(held, protocol) for protocol in (3, 4)]


def mats(variables: dict[str, Any]) -> list[bytes]:
    """A .mat file packed, and not."""
    files = []
    for do_compression in (True, False):
        file = io.BytesIO()
        scipy.io.savemat(file, variables, do_compression=do_compression)
        files.append(file.getvalue())
    return files


def npzs() -> list[bytes]:
    files = []
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, **{key: _random((2, 3), "i4") for key in mnist_mini.KEYS})
        files.append(file.getvalue())
    return files


def tars() -> list[bytes]:
    files = []
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w:gz", format=kind) as archive:
            for name, size in MEMBERS.items():
                member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
                member.size = size
                archive.addfile(member, io.BytesIO(bytes(_random((size,)))))
        files.append(file.getvalue())
    return files


def zips() -> list[bytes]:
    files = []
    for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", how) as archive:
            archive.writestr("a/test.mat", bytes(_random((300,))))
        files.append(file.getvalue())
    return files


def of_idx(result: Any, content: bytes, whole: list[bytes]) -> bool:
    plain = gzip.decompress(content) if content[:2] == packed.GZIP else content
    return idx.dump(result) == plain


def of_norb(result: Any, content: bytes, whole: list[bytes]) -> bool:
    return content.endswith(result.tobytes()) and len(content) - result.nbytes <= 8 + 4 * 8


def of_cifar(result: Any, content: bytes, whole: list[bytes]) -> bool:
    images, labels = result
    return images.shape[1:] == (32, 32, 3) and images.dtype == np.uint8 and labels.ndim == 1


def of_split(result: Any, content: bytes, whole: list[bytes]) -> bool:
    return result.images.ndim == 4 and len(result.images) == len(result.labels)


def _bytes(read: Callable[[bytes, str], Any]) -> Callable[[Path], Any]:
    return lambda file: read(file.read_bytes(), file.name)


_IDX = [idx.dump(_random((3, 5, 7))), idx.dump(_random((11,))), idx.dump(_random((2, 3), ">f4"))]
_GZ = [gzip.compress(each) for each in _IDX]
_NORB = norb("u1", 2, 2, 4, 4), norb("i4", 5), norb("i4", 2, 3)
_BINARY = bytes(_random((2, 3073)))
_SVHN = {"X": _random((4, 4, 3, 2)), "y": np.array([[1], [10]], np.uint8)}
_AFFNIST = {"image": _random((1600, 2)), "label_int": np.array([[1, 2]], np.uint8), "name": "x"}

ROWS = (
    Reader("IDX", "a.idx", _contents(*_IDX), idx.read, of_idx, 9000),
    Reader("IDX, gzipped", "a.gz", _contents(*_GZ), idx.read, of_idx, 6000, mutate=inside_gzip),
    Reader("smallNORB", "a.mat", _contents(*_NORB), _bytes(smallnorb.parse), of_norb, 9000),
    Reader(
        "CIFAR-10, pickled",
        "data_batch_1",
        _contents(*cifar_pickles()),
        lambda file: cifar10.read(file.name, file.read_bytes()),
        of_cifar,
        8000,
    ),
    Reader(
        "CIFAR-10, binary",
        "data_batch_1.bin",
        _contents(_BINARY),
        lambda file: cifar10.read(file.name, file.read_bytes()),
        of_cifar,
        2000,
    ),
    Reader("SVHN's .mat", "a.mat", _contents(*mats(_SVHN)), _bytes(svhn.split), of_split, 4000),
    Reader(
        "affNIST's .mat",
        "a.mat",
        _contents(*mats({"affNISTdata": _AFFNIST})),
        lambda file: affnist.tested(file.read_bytes()),
        of_split,
        4000,
    ),
    Reader(
        ".npz of a data set",
        "a.npz",
        _contents(*npzs()),
        lambda file: packed.npz(file, mnist_mini.KEYS),
        any_result,
        4000,
        mutate=inside_zip,
    ),
    Reader(
        ".tar.gz of a data set",
        "a.tar.gz",
        _contents(*tars()),
        lambda file: packed.tar(file, MEMBERS),
        any_result,
        3000,
        mutate=inside_gzip,
    ),
    Reader(
        ".zip of a data set",
        "a.zip",
        _contents(*zips()),
        lambda file: packed.zipped(file, {"test.mat"}),
        any_result,
        3000,
    ),
)
