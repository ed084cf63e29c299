"""What is tried: one way of reading, files that it reads, and what a right result is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from fuzz.mutate import mutated

Mutate = Callable[[Random, bytes, Sequence[bytes]], bytes]


@dataclass(frozen=True)
class Reader:
    """One row of the table.

    name    what is read, in words
    file    the name of the file that is altered, below the folder that `make` fills
    make    fills a folder with all that is read; returns whole contents of the file
    read    reads the file, whose folder is the same
    right   whether a result may come from this content, given the whole contents
    count   inputs of `make fuzz`
    memory  MiB that reading may take
    """

    name: str
    file: str
    make: Callable[[Path], list[bytes]]
    read: Callable[[Path], Any]
    right: Callable[[Any, bytes, list[bytes]], bool]
    count: int
    memory: int = 256
    mutate: Mutate = mutated


def any_result(result: Any, content: bytes, whole: list[bytes]) -> bool:
    """Where nothing in a file says what its numbers should be, they may be any."""
    return True


def only_whole(result: Any, content: bytes, whole: list[bytes]) -> bool:
    """Where a checksum covers every byte, no other content is read."""
    return content in whole
