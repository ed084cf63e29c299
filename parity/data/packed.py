"""The content of a file, gzipped or not: told apart by its first bytes, not by its name."""

import gzip
import io
import os
import zlib
from pathlib import Path

from parity.data.splits import DataError

GZIP = b"\x1f\x8b"


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
