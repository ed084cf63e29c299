"""The content of packed files: gzip, told by its first bytes and not by its name; npz; tar; zip."""

import gzip
import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from parity.data.splits import DataError

GZIP = b"\x1f\x8b"

# What zipfile and NumPy raise for one altered byte or another.
NOT_ZIP = (
    *(OSError, ValueError, KeyError, EOFError, TypeError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)


def read(path: str | os.PathLike, limit: int | None = None) -> bytes:
    """The unpacked content of a file of at most `limit` bytes; raises DataError naming it."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    return unpack(content, str(path), limit)


def unpack(content: bytes, what: str, limit: int | None = None) -> bytes:
    """`content`, or what is in it if it is gzipped; raises DataError where that is torn.

    Unpacks no more than one byte past `limit`, so a small file cannot fill the memory.
    """
    if content[:2] == GZIP:
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
                unpacked = file.read(-1 if limit is None else limit + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{what}: the gzip stream in its {len(content)} bytes is torn or altered "
                f"({error}); fetch the file again"
            ) from error
    else:
        unpacked = content
    if limit is not None and len(unpacked) > limit:
        raise DataError(f"{what}: holds more than the {limit} bytes expected")
    return unpacked


def npz(path: str | os.PathLike, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of these names in a .npz; raises DataError where it is not whole."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in keys}
    except NOT_ZIP as error:
        raise DataError(f"{path}: not a whole .npz with {', '.join(keys)} ({error})") from error


def tar(path: str | os.PathLike, names: Collection[str]) -> dict[str, bytes]:
    """The content of the files of these names, in any folder of a .tar.gz; raises DataError."""
    found = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = os.path.basename(member.name)
                if name in names and (file := archive.extractfile(member)):
                    found[name] = file.read()
    except (OSError, EOFError, KeyError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{path}: not a whole .tar.gz ({error}); fetch it again") from error
    return found


def zipped(path: str | os.PathLike, names: Collection[str]) -> dict[str, bytes]:
    """The content of the files of these names, in any folder of a .zip; raises DataError."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = ((os.path.basename(each), each) for each in archive.namelist())
            return {name: archive.read(member) for name, member in found if name in names}
    except NOT_ZIP as error:
        raise DataError(f"{path}: not a whole .zip ({error}); fetch it again") from error
