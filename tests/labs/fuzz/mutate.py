"""Mistakes in bytes and in values, drawn from a seeded generator."""

import gzip
import io
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Mistake = Callable[[Random, bytearray, Sequence[bytes]], bytearray]

EXTREMES = (0, 1, 2, 3, 7, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
DIGITS = (b"0", b"-1", b"1", b"4294967296", b"99999999999999999999", b"1e400", b"NaN", b"1.5")
# Where a value of JSON is put: what is no network, no number of this world, or no end.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, 10**400, 0.5, 1e308, float("nan")),
    *(float("inf"), "", "0", "../../etc/passwd", "/etc/passwd", "\ud800", "\0", "e" * 300),
    *([], {}, [[]], [0], {"": 0}, [None], [[[[[[[[0]]]]]]]]),
)


def _flip(draw: Random, content: bytearray, others: Sequence[bytes]) -> bytearray:
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        content[_place(draw, content)] ^= 1 << draw.randrange(8)
    return content


def _byte(draw: Random, content: bytearray, others: Sequence[bytes]) -> bytearray:
    content[_place(draw, content)] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
    return content


def _number(draw: Random, content: bytearray, others: Sequence[bytes]) -> bytearray:
    """An extreme in the place of a number of 2, 4 or 8 bytes, little- or big-endian."""
    size, kind = draw.choice(((2, "H"), (4, "I"), (4, "I"), (8, "Q")))
    value = draw.choice((*EXTREMES, len(content), len(content) - 1, len(content) + 1, -1))
    packed = struct.pack(draw.choice("<>") + kind, value % 2 ** (8 * size))
    place = _place(draw, content)
    content[place : place + size] = packed
    return content


def _digits(draw: Random, content: bytearray, others: Sequence[bytes]) -> bytearray:
    """A number in a text becomes another."""
    hits = list(re.finditer(rb"\d+", content[:20_000]))
    if hits:
        hit = draw.choice(hits)
        content[hit.start() : hit.end()] = draw.choice(DIGITS)
    return content


def _cut(draw: Random, content: bytearray, others: Sequence[bytes]) -> bytearray:
    return content[: draw.randrange(len(content))]


def _insert(draw: Random, content: bytearray, others: Sequence[bytes]) -> bytearray:
    place = _place(draw, content)
    count = draw.choice((1, 2, 4, 16, 300))
    content[place:place] = draw.choice((draw.randbytes(count), bytes(count), b"[" * count))
    return content


def _delete(draw: Random, content: bytearray, others: Sequence[bytes]) -> bytearray:
    place = _place(draw, content)
    del content[place : place + draw.choice((1, 2, 4, 8, 100))]
    return content


def _repeat(draw: Random, content: bytearray, others: Sequence[bytes]) -> bytearray:
    start = _place(draw, content)
    part = content[start : start + draw.choice((1, 4, 30, 500))]
    content[start:start] = part * draw.choice((1, 2, 20))
    return content


def _splice(draw: Random, content: bytearray, others: Sequence[bytes]) -> bytearray:
    """The beginning of one file and the end of another, or a piece of it inside."""
    other = draw.choice(others)
    if draw.random() < 0.5:
        place = draw.randrange(len(content))
        return content[:place] + other[draw.choice((place, draw.randrange(len(other)))) :]
    start, size = draw.randrange(len(other)), draw.choice((4, 16, 100))
    place = _place(draw, content)
    content[place : place + size] = other[start : start + size]
    return content


MISTAKES: tuple[Mistake, ...] = (
    *(_flip, _flip, _byte, _byte, _number, _number, _number),
    *(_digits, _cut, _insert, _delete, _repeat, _splice),
)


def _place(draw: Random, content: bytearray) -> int:
    """Anywhere, but most often in the header at the start, or in the one at the end."""
    reach = draw.choice((16, 64, 256, 1024, len(content)))
    place = draw.randrange(min(reach, len(content)))
    return len(content) - 1 - place if draw.random() < 0.2 else place


def mutated(draw: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """`content` with one mistake to four; `others` are whole files to splice with."""
    new = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 4))):
        if not new:
            break
        new = draw.choice(MISTAKES)(draw, new, others)
    return bytes(new)


def changed(draw: Random, values: Any) -> Any:
    """JSON values with one of them, at any depth, another, gone, doubled or named otherwise."""
    if not isinstance(values, dict | list) or not values or draw.random() < 0.1:
        return draw.choice(VALUES)
    new: Any = values.copy()
    key = draw.choice(list(new)) if isinstance(new, dict) else draw.randrange(len(new))
    act = draw.random()
    if act < 0.8:
        new[key] = changed(draw, new[key])
    elif act < 0.9:
        del new[key]
    elif isinstance(new, dict):
        new[draw.choice(("", "spec", "x" * 99, str(key) + " "))] = new[key]
    else:
        new.extend(new * draw.choice((1, 50)))
    return new


def inside_gzip(draw: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A whole gzip stream of altered content, half of the time."""
    if draw.random() < 0.5:
        return mutated(draw, content, others)
    return gzip.compress(mutated(draw, gzip.decompress(content), [content]), 1)


def inside_zip(draw: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A whole zip file one member of which is altered, two times in three."""
    if draw.random() < 0.33:
        return mutated(draw, content, others)
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        altered = draw.choice(old.namelist())
        for member in old.infolist():
            held = old.read(member)
            if member.filename == altered:
                held = mutated(draw, held, [content])
            new.writestr(member, held)
    return made.getvalue()
