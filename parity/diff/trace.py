"""A whole trace, read from its file: an array is read when it is asked for."""

import functools
import json
import os
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from parity.diff.tape import FORMAT, INDEX, SCHEMA, Call, Entry, Node
from parity.spec import TwincapsError

KEPT = 32  # arrays in memory at a time


class DiffError(TwincapsError):
    """Two models that cannot be compared, or a side that cannot be run."""


class Trace:
    """A recorded pass of one side.

    Args:
        path: The file that a `Tape` wrote.

    Raises:
        DiffError: Where it is no whole trace.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        try:
            with zipfile.ZipFile(self.path) as file:
                index = json.loads(file.read(INDEX))
            if index["format"] != FORMAT or index["schema"] != SCHEMA:
                raise DiffError(
                    f"{path}: {index['format']} of schema {index['schema']}, expected {FORMAT} of "
                    f"schema {SCHEMA}; write it with parity.diff.trace of this twincaps"
                )
            self.calls = [Call(**each) for each in index["calls"]]
            self.nodes = [Node(**each) for each in index["nodes"]]
            self.entries = [_entry(each) for each in index["entries"]]
            self.parameters: dict[str, dict[str, Any]] = index["parameters"]
            self.gradients: dict[str, int] = index["gradients"]
            self.untraced: list[str] = index["untraced"]
            self.framework: str = index["framework"]
            self.precision: str = index["precision"]
        except (OSError, zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
            if isinstance(error, DiffError):
                raise
            raise DiffError(
                f"{path}: not a whole trace ({error}); expected a file that parity.diff.trace wrote"
            ) from error
        self._array = functools.lru_cache(KEPT)(self._read)

    def array(self, entry: int) -> np.ndarray:
        """An array by its number; not to be written to."""
        return self._array(entry)

    def of(self, node: int) -> np.ndarray:
        """The array of a node."""
        return self.array(self.nodes[node].entry)

    def _read(self, entry: int) -> np.ndarray:
        with zipfile.ZipFile(self.path) as file, file.open(f"{entry}.npy") as stored:
            return np.lib.format.read_array(stored, allow_pickle=False)  # pyright: ignore

    @functools.cached_property
    def labels(self) -> list[str]:
        """What a report calls each node; no two are the same."""
        often = Counter(each.name for each in self.calls)
        counts: Counter[str] = Counter()
        labels = []
        for node in self.nodes:
            name, number = node.name, node.number
            if node.role in ("input", "output"):
                number = self.calls[node.call].number
                often_called = often[name] > 1
            else:
                often_called = number > 0
            label = f"{name}{f'#{number + 1}' * often_called}{node.part}"
            label += {"input": " (input)"}.get(node.role, "")
            counts[label] += 1
            labels.append(label + f"~{counts[label]}" * (counts[label] > 1))
        return labels

    @functools.cached_property
    def given(self) -> dict[int, int]:
        """Call -> the first array that it was given."""
        found: dict[int, int] = {}
        for node in self.nodes:
            if node.role == "input":
                found.setdefault(node.call, node.entry)
        return found

    @functools.cached_property
    def makers(self) -> dict[int, int]:
        """Entry -> the first node that has it, the one that made it."""
        found: dict[int, int] = {}
        for number, node in enumerate(self.nodes):
            found.setdefault(node.entry, number)
        return found


def _entry(fields: dict[str, Any]) -> Entry:
    low, high, mean, root = fields.pop("moments")
    return Entry(**{**fields, "shape": tuple(fields["shape"])}, moments=(low, high, mean, root))
