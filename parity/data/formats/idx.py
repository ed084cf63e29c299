"""IDX, the format of MNIST: two zero bytes, type, number of axes, sizes, data.

All big-endian. Source: http://yann.lecun.com/exdb/mnist, "the IDX file format".
"""

import math
import os
import struct

import numpy as np

from parity.data.formats import packed
from parity.data.splits import DataError

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read(path: str | os.PathLike) -> np.ndarray:
    """The array of an IDX file, gzipped or not; raises DataError with the position."""
    return parse(packed.read(path, head=_end), str(path))


def parse(content: bytes, what: str) -> np.ndarray:
    """The array in an IDX file's unpacked content, read-only, in native byte order.

    Nothing is allocated before the sizes are known to fit the content. Raises DataError, with
    `what` and the position, for a wrong magic number, and for too few or too many bytes.
    """
    if len(content) < 4:
        raise DataError(f"{what}: ends at byte {len(content)}; expected a magic number of 4 bytes")
    zeros, kind, axes = struct.unpack(">HBB", content[:4])
    if zeros != 0 or kind not in TYPES or axes == 0:
        raise DataError(
            f"{what}: byte 0: magic number 0x{content[:4].hex()}; expected 0x0000TTAA with a type "
            f"TT among {', '.join(f'{code:02x}' for code in TYPES)} and a number of axes AA above 0"
        )
    start = 4 + 4 * axes
    if len(content) < start:
        raise DataError(
            f"{what}: ends at byte {len(content)}, in its header; expected the sizes of {axes} "
            f"axes up to byte {start}"
        )
    shape = struct.unpack(f">{axes}I", content[4:start])
    dtype = np.dtype(TYPES[kind])
    end = start + math.prod(shape) * dtype.itemsize
    if len(content) != end:
        fault = "is cut short" if len(content) < end else "has bytes too many"
        raise DataError(
            f"{what}: {fault}: ends at byte {len(content)}; its header says {list(shape)} of "
            f"{dtype.name}, which end at byte {end}"
        )
    flat = np.frombuffer(content, dtype, offset=start).astype(dtype.newbyteorder("="), copy=False)
    try:
        return flat.reshape(shape)
    except ValueError as error:  # more axes than NumPy has, or a size beside an empty axis
        raise DataError(f"{what}: its header says {list(shape)}: {error}") from error


def _end(head: bytes) -> int | None:
    """The length of a file by its first bytes; None where they are no header."""
    axes = head[3] if len(head) > 3 else 0
    start = 4 + 4 * axes
    if len(head) < start or head[2] not in TYPES:
        return None
    numbers = math.prod(struct.unpack(f">{axes}I", head[4:start]))
    return start + numbers * np.dtype(TYPES[head[2]]).itemsize


def dump(array: np.ndarray) -> bytes:
    """The IDX content of an array; raises DataError for a dtype that IDX lacks."""
    kinds = {np.dtype(name).newbyteorder("="): kind for kind, name in TYPES.items()}
    kind = kinds.get(array.dtype.newbyteorder("="))
    if kind is None or array.ndim == 0:
        raise DataError(
            f"an array of {array.dtype} with shape {array.shape} does not fit an IDX file; "
            f"expected one of {', '.join(str(dtype) for dtype in kinds)} and at least one axis"
        )
    header = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
    return header + array.astype(TYPES[kind]).tobytes()
