"""The files of data sets: those told by their MD5, affNIST's .mat, .npz, archives."""

import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from fuzz.mutate import inside_gzip, inside_zip
from fuzz.reader import Reader, any_result
from parity.data import locate
from parity.data.formats import packed
from parity.data.sets import affnist, mnist_mini

MEMBERS = {"data_batch_1": 300, "test_batch": 300}


def _contents(*contents: bytes) -> Callable[[Path], list[bytes]]:
    return lambda folder: list(contents)


def _random(shape: tuple[int, ...], dtype: str = "u1") -> np.ndarray:
    return np.random.default_rng(7).integers(0, 9, shape).astype(dtype)


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


def by_md5(file: Path) -> bytes:
    """The content of a file that is told by its size and MD5, in a folder that a user names."""
    return locate.find(KNOWN, file.parent).contents["known"]


def of_known(result: Any, content: bytes, whole: list[bytes]) -> bool:
    return result == _KNOWN


def of_split(result: Any, content: bytes, whole: list[bytes]) -> bool:
    return result.images.ndim == 4 and len(result.images) == len(result.labels)


_KNOWN = bytes(_random((1009,)))
KNOWN = locate.Source(
    name="known",
    files=(locate.File("known", len(_KNOWN), hashlib.md5(_KNOWN).hexdigest()),),
    folders=("",),
    url="",
    remote=(),
)
_AFFNIST = {"image": _random((1600, 2)), "label_int": np.array([[1, 2]], np.uint8), "name": "x"}

ROWS = (
    Reader(
        "a file of known MD5",
        "known",
        _contents(_KNOWN),
        by_md5,
        of_known,
        9000,
    ),
    Reader(
        "a file of known MD5, gzipped",
        "known.gz",
        _contents(gzip.compress(_KNOWN)),
        by_md5,
        of_known,
        6000,
        mutate=inside_gzip,
    ),
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
