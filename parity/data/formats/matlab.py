"""MATLAB's files, through SciPy, once every size in them is checked.

Source: MathWorks, "MAT-File Format", versions 5 to 7: a header of 128 bytes, then elements, each
a tag (type, bytes) and data; an array is an element of elements.
"""

import io
import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from parity.data.formats.packed import EXPANSION
from parity.data.splits import DataError

HEADER, TAG = 128, 8
MATRIX, COMPRESSED = 14, 15
# type of data -> bytes of a number
SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
INT8, INT32, UINT32 = 1, 5, 6
CELL, STRUCT, CHAR, NUMBERS = 1, 2, 4, range(6, 16)
COMPLEX = 0x0800
DEPTH = 8  # of structs in structs


def loads(content: bytes, what: str) -> dict[str, Any]:
    """The variables of a .mat file of versions 5 to 7; raises DataError."""
    try:
        import scipy.io
    except ImportError as error:
        raise DataError(f"{what}: reading it needs SciPy; pip install twincaps[data]") from error
    try:
        return scipy.io.loadmat(io.BytesIO(_checked(content)))
    except Exception as error:  # a broken file may raise anything
        raise DataError(f"{what}: not a whole MATLAB file ({error})") from error


def _checked(content: bytes) -> bytes:
    """The same file unpacked, every size in it verified; raises ValueError."""
    order = {b"IM": "<", b"MI": ">"}.get(content[126:HEADER])
    if order is None or struct.unpack(f"{order}H", content[124:126]) != (0x0100,):
        raise ValueError(f"its header of {HEADER} bytes is of none of the versions 5 to 7")
    parts, place = [content[:HEADER]], HEADER
    while place < len(content):
        kind, size = struct.unpack(f"{order}II", _cut(content, place, TAG))
        data = _cut(content, place + TAG, size)
        if kind == COMPRESSED:
            data = _inflated(data, order)
        elif kind == MATRIX:
            data = content[place : place + TAG] + data
        else:
            raise ValueError(f"an element of type {kind} at byte {place}; expected an array")
        _check_matrix(data[TAG:], order, DEPTH)
        parts.append(data)
        place += TAG + size
    return b"".join(parts)


def _cut(content: bytes, place: int, size: int) -> bytes:
    """`size` bytes from a place on, if they are there."""
    if size > len(content) - place:
        raise ValueError(f"{size} bytes at byte {place} of {len(content)}")
    return content[place : place + size]


def _inflated(data: bytes, order: str) -> bytes:
    """The one array in a compressed element."""
    kind, size = struct.unpack(f"{order}II", zlib.decompressobj().decompress(data, TAG))
    if kind != MATRIX or size > EXPANSION * len(data):
        raise ValueError(f"{len(data)} bytes unpack to an element of type {kind}, {size} bytes")
    content = zlib.decompressobj().decompress(data, TAG + size + 1)
    if len(content) != TAG + size:
        raise ValueError(f"{len(data)} bytes do not unpack to {size}")
    return content


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """(type, data) of each element; small ones keep up to 4 bytes in the tag."""
    place = 0
    while place < len(data):
        kind, size = struct.unpack(f"{order}II", _cut(data, place, TAG))
        if kind >> 16:
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise ValueError(f"{size} bytes in the 4 of a small element")
            yield kind, data[place + 4 : place + 4 + size]
            place += TAG
        else:
            yield kind, _cut(data, place + TAG, size)
            place += TAG + size + -size % 8


def _check_matrix(data: bytes, order: str, depth: int) -> None:
    """Raises ValueError unless an array holds what its header says."""
    if not data:
        return  # an empty array
    if depth == 0:
        raise ValueError(f"more than {DEPTH} structs in each other")
    parts = _elements(data, order)
    flags, sizes, (name_kind, _) = (next(parts, (0, b"")) for _ in range(3))
    if [flags[0], sizes[0], name_kind] != [UINT32, INT32, INT8] or len(flags[1]) != 8:
        raise ValueError("an array without flags, sizes and a name")
    (word,) = struct.unpack(f"{order}I", flags[1][:4])
    if len(sizes[1]) % 4 or not 8 <= len(sizes[1]) <= 128:
        raise ValueError(f"{len(sizes[1])} bytes of sizes")
    shape = struct.unpack(f"{order}{len(sizes[1]) // 4}i", sizes[1])
    if min(shape) < 0 or max(shape) * 8 > EXPANSION * len(data) + 8:
        raise ValueError(f"an array of {list(shape)} in {len(data)} bytes")
    count, kind = math.prod(shape), word & 0xFF
    if kind == STRUCT:
        count *= _fields(parts, order)
    if kind in (CELL, STRUCT):
        if count * TAG > len(data):
            raise ValueError(f"{count} arrays in {len(data)} bytes")
        inner = list(parts)
        if len(inner) != count or any(inner_kind != MATRIX for inner_kind, _ in inner):
            raise ValueError(f"{len(inner)} arrays; its header says {count}")
        for _, matrix in inner:
            _check_matrix(matrix, order, depth - 1)
        return
    if kind != CHAR and kind not in NUMBERS:
        raise ValueError(f"an array of class {kind}; expected numbers, text, cells or structs")
    planes = list(parts)
    if len(planes) != (2 if word & COMPLEX else 1):
        raise ValueError(f"{len(planes)} parts of an array of numbers")
    for number, numbers in planes:
        exact = number in SIZES and len(numbers) == count * SIZES[number]
        if not exact and not (kind == CHAR and number in SIZES and count <= len(numbers)):
            raise ValueError(f"{len(numbers)} bytes of type {number} for an array of {list(shape)}")


def _fields(parts: Iterator[tuple[int, bytes]], order: str) -> int:
    """How many fields a struct has."""
    (kind, data), (_, names) = (next(parts, (0, b"")) for _ in range(2))
    (length,) = struct.unpack(f"{order}i", data) if kind == INT32 and len(data) == 4 else (0,)
    if not 0 < length <= 64 or len(names) % length or not names:
        raise ValueError(f"{len(names)} bytes of names of {length} each")
    return len(names) // length
