"""Every way in which twincaps reads a file; `READERS` is the table."""

import wings

from fuzz import datasets, ours, pictures, theirs
from fuzz.reader import Reader

NEEDS = {"torch": "PyTorch", "jax": "Flax"}


def _can_be_read(reader: Reader) -> bool:
    return all(wing in wings.NAMES or word not in reader.name for wing, word in NEEDS.items())


ROWS: tuple[Reader, ...] = (*ours.ROWS, *datasets.ROWS, *pictures.ROWS, *theirs.ROWS)
READERS = {row.name: row for row in ROWS if _can_be_read(row)}
