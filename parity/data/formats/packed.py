"""The content of packed files: gzip (by its first bytes), npz, tar, zip.

The sizes that a header claims are held against the length of the file before anything is read.
"""

import gzip
import io
import math
import os
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from parity.data.splits import DataError

GZIP = b"\x1f\x8b"
# Deflate unpacks a byte to at most as many as this; what claims more is no whole file.
EXPANSION = 1033


def read(path: str | os.PathLike, limit: int | None = None) -> bytes:
    """The unpacked content of a file of at most `limit` bytes; raises DataError naming it.

    Unpacks no more than one byte past `limit`, so a small file cannot fill the memory.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if content[:2] == GZIP:
        content = _unpacked(content, str(path), limit)
    if limit is not None and len(content) > limit:
        raise DataError(f"{path}: holds more than the {limit} bytes expected")
    return content


def length(path: str | os.PathLike) -> int:
    """The length of the unpacked content as the file states it; raises DataError."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == GZIP
            end = file.seek(0, os.SEEK_END)
            if not packed or end < 18:  # a header and a trailer, of a gzip stream of nothing
                return end
            file.seek(-4, os.SEEK_END)
            return int.from_bytes(file.read(4), "little")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _unpacked(content: bytes, what: str, limit: int | None) -> bytes:
    """What is in a gzip stream, up to one byte past `limit`."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            return file.read(-1 if limit is None else limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{what}: the gzip stream in its {len(content)} bytes is torn or altered "
            f"({error}); fetch the file again"
        ) from error


def npz(path: str | os.PathLike, keys: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of these names in a .npz, or all; raises DataError."""
    try:
        content = Path(path).read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            refuse_swollen(archive, len(content))
            named = {member.removesuffix(".npy"): member for member in archive.namelist()}
            return {key: _array(archive, named[key]) for key in (keys or named)}
    except Exception as error:  # zip, zlib and NumPy each have their own
        listed = f" with {', '.join(keys)}" if keys else " file of plain arrays"
        raise DataError(f"{path}: not a whole .npz{listed} ({error})") from error


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array, if its header states as many bytes as there are."""
    form = np.lib.format
    content = io.BytesIO(archive.read(name))
    major, _ = form.read_magic(content)
    if major not in (1, 2):
        raise ValueError(f"{name} is of version {major} of the format; expected 1 or 2")
    header = form.read_array_header_1_0 if major == 1 else form.read_array_header_2_0
    shape, fortran, dtype = header(content)
    numbers = content.getbuffer()[content.tell() :]
    if dtype.hasobject:
        raise ValueError(f"{name} is a pickle of objects; expected numbers")
    if math.prod(shape) * dtype.itemsize != len(numbers):
        raise ValueError(f"{name} holds {len(numbers)} bytes; its header says {shape} of {dtype}")
    order = "F" if fortran else "C"
    return np.frombuffer(numbers, dtype).reshape(shape, order=order).copy(order=order)


def refuse_swollen(archive: zipfile.ZipFile, length: int) -> None:
    """Raises ValueError where members claim more bytes than a file can hold."""
    for member in archive.infolist():
        room = min(member.compress_size, length)
        most = room if member.compress_type == zipfile.ZIP_STORED else room * EXPANSION
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{member.filename} is packed in a way that .npz and .pt are not")
        if member.file_size > most or member.compress_size > length:
            raise ValueError(f"{member.filename} claims {member.file_size} bytes in {room}")
    if sum(member.file_size for member in archive.infolist()) > length * EXPANSION:
        raise ValueError("its members claim more bytes than the file can hold")


def tar(path: str | os.PathLike, sizes: Mapping[str, int | None]) -> dict[str, bytes]:
    """The content of the named files of a .tar.gz, in any folder; raises DataError.

    Links are passed over, and no file is read that is not of the size expected, where one is.
    """
    contents = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = os.path.basename(member.name)
                whole = member.isreg() and not member.issparse()
                if name in sizes and whole:
                    if sizes[name] not in (None, member.size):
                        raise DataError(
                            f"{path}: {name}: holds {member.size} bytes, expected {sizes[name]}"
                        )
                    file = archive.extractfile(member)
                    contents[name] = file.read() if file else b""
    except DataError:
        raise
    except Exception as error:  # tar, gzip and zlib each have their own
        raise DataError(f"{path}: not a whole .tar.gz ({error}); fetch it again") from error
    return contents


def zipped(path: str | os.PathLike, names: Collection[str]) -> dict[str, bytes]:
    """The content of the named files of a .zip, in any folder; raises DataError."""
    try:
        content = Path(path).read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            refuse_swollen(archive, len(content))
            members = ((os.path.basename(entry), entry) for entry in archive.namelist())
            return {name: archive.read(member) for name, member in members if name in names}
    except Exception as error:  # zip and zlib each have their own
        raise DataError(f"{path}: not a whole .zip ({error}); fetch it again") from error
