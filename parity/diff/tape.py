"""A trace as it is written: every tensor that passes, in the order of execution, in one file.

The file is a zip of .npy arrays, which `numpy.load` opens, and `index.json`, which is written last:
without it a trace is not whole. Arrays go to the file as they come, so that no pass is in memory
as a whole; an array with the bytes of an earlier one is written once.

A *call* is one call of a module, a *node* one tensor that went in or came out of it.
"""

import contextlib
import functools
import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parity.diff.nested import over

FORMAT, SCHEMA, INDEX = "twincaps-diff", 1, "index.json"
# A mask's largest finite number of float32 is an infinity in all but name.
HUGE = 1e30

# A tensor of any framework -> a NumPy array, or None where it has no value yet (inside a compiler).
Reader = Callable[[Any], np.ndarray | None]


@dataclass
class Call:
    """One call of a module: its name, class, the call around it (-1: none), how often before."""

    name: str
    kind: str
    parent: int
    number: int


@dataclass
class Node:
    """One tensor: the call it belongs to, its role there, its place among several, its array.

    Attributes:
        name: Of the module, or what was given to `record`.
        role: given (to the whole model), input, output, record, or final (of the whole model).
        part: Its place in a tuple or a dict: "[1]", "[hidden]", or "".
        call: Of which call it is; for a record the one around it.
        entry: Its array in the file.
    """

    name: str
    role: str
    part: str
    call: int
    entry: int
    number: int = 0


@dataclass
class Entry:
    """One array of the file, and what finds its like without reading it.

    Attributes:
        dtype: As the framework has it; a bfloat16 is stored as float32.
        moments: Of its finite numbers: smallest, largest, mean, root mean square.
        distinct: How many values it has, up to 64.
        odd: How many of its numbers are NaN, infinite or as good as.
    """

    shape: tuple[int, ...]
    dtype: str
    moments: tuple[float, float, float, float]
    distinct: int
    odd: int

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return int(np.prod(self.shape))

    @property
    def scale(self) -> float:
        """Its largest finite magnitude."""
        return max(abs(self.moments[0]), abs(self.moments[1]))


class Tape:
    """Writes one trace; `close` makes it whole.

    Args:
        path: The file, which is overwritten.
        read: Tensor -> array, or None for what is no tensor of the framework.
        attach: Where gradients are recorded, (name of a node, tensor) -> the tensor to go on with.
    """

    def __init__(self, path: str | os.PathLike, read: Reader) -> None:
        self.path, self.read = Path(path), read
        self.attach: Callable[[int, Any], Any] | None = None
        self.calls: list[Call] = []
        self.nodes: list[Node] = []
        self.entries: list[Entry] = []
        self.parameters: dict[str, dict[str, Any]] = {}
        self.gradients: dict[str, int] = {}
        self.untraced: dict[str, None] = {}
        self._keys: dict[bytes, int] = {}
        self._open: list[int] = []
        self._counts: dict[tuple[str, str], int] = {}
        self._zip = zipfile.ZipFile(self.path, "w", allowZip64=True)

    def enter(self, name: str, kind: str, given: Any) -> int:
        """Begins a call of a module with these arguments; returns its number."""
        call = len(self.calls)
        self.calls.append(Call(name, kind, self.inside, self._count("call", name)))
        self._open.append(call)
        if isinstance(given, tuple) and len(given) == 1:
            given = given[0]
        self._nodes(name, "input", call, given)
        return call

    def leave(self, call: int, result: Any) -> Any:
        """Ends a call; returns its result, to be used instead of what it was given."""
        while self._open and self._open[-1] != call:  # a call that an exception left
            self._open.pop()
        self._open.pop()
        return self._nodes(self.calls[call].name, "output", call, result)

    @property
    def inside(self) -> int:
        """The innermost call that has begun and not ended, -1 without one."""
        return self._open[-1] if self._open else -1

    def record(self, name: str, value: Any, role: str = "record") -> Any:
        """Adds tensors that are no module's; returns them, to be used instead."""
        return self._nodes(name, role, self.inside, value, self._count(role, name))

    def parameter(self, names: list[str], array: np.ndarray) -> None:
        """Adds a parameter, or a buffer, under all names it has."""
        self.parameters[names[0]] = {"entry": self.add(array), "also": names[1:]}

    def gradient(self, key: str, array: np.ndarray) -> None:
        """Adds the gradient at a node (its number as a string) or by a parameter (its name)."""
        self.gradients[key] = self.add(array)

    def add(self, array: np.ndarray, dtype: str = "") -> int:
        """Writes an array unless an earlier one has the same bytes; returns its number."""
        dtype = dtype or str(array.dtype)
        array = _storable(array)
        digest = hashlib.blake2b(f"{dtype}{array.shape}".encode(), digest_size=16)
        digest.update(array.reshape(-1).view(np.uint8).data)
        key = digest.digest()
        if key not in self._keys:
            self._keys[key] = len(self.entries)
            with self._zip.open(f"{len(self.entries)}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)  # pyright: ignore
            self.entries.append(_entry(array, dtype))
        return self._keys[key]

    def close(self, **header: Any) -> None:
        """Writes the index, with which the trace is whole."""
        index = {"format": FORMAT, "schema": SCHEMA, **header}
        for name in ("calls", "nodes", "entries"):
            index[name] = [asdict(each) for each in getattr(self, name)]
        index |= {"parameters": self.parameters, "gradients": self.gradients}
        index["untraced"] = list(self.untraced)
        self._zip.writestr(INDEX, json.dumps(index))
        self._zip.close()

    def abandon(self) -> None:
        """Removes the file of a pass that failed."""
        with contextlib.suppress(Exception):
            self._zip.close()
        self.path.unlink(missing_ok=True)

    def where(self) -> str:
        """The module that runs: where an exception came from."""
        return "the model itself" if self.inside < 0 else self.calls[self.inside].name

    def _count(self, role: str, name: str) -> int:
        count = self._counts.get((role, name), 0)
        self._counts[role, name] = count + 1
        return count

    def _nodes(self, name: str, role: str, call: int, value: Any, number: int = 0) -> Any:
        """Adds each tensor of a nest; returns the nest, with what `attach` makes of each tensor."""

        def add(part: str, tensor: Any) -> Any:
            array = self.read(tensor)
            if array is None:
                return tensor
            node = len(self.nodes)
            self.nodes.append(Node(name, role, part, call, -1, number))
            if isinstance(array, Pending):
                array.then(functools.partial(self._late, node))
            else:
                dtype = str(getattr(tensor, "dtype", array.dtype)).removeprefix("torch.")
                self.nodes[node].entry = self.add(array, dtype)
            passes = self.attach is not None and role not in ("input", "final")
            return self.attach(node, tensor) if passes else tensor  # pyright: ignore

        return over(value, add)

    def _late(self, node: int, array: Any) -> None:
        self.nodes[node].entry = self.add(np.asarray(array), str(array.dtype))


@dataclass
class Pending:
    """A tensor whose value comes later: `then` is called with who takes it."""

    then: Callable[[Callable[[Any], None]], Any]


_TAPES: list[Tape] = []


def active() -> Tape | None:
    """The tape of the pass that runs, if any."""
    return _TAPES[-1] if _TAPES else None


@contextlib.contextmanager
def playing(tape: Tape) -> Iterator[Tape]:
    """Makes a tape the one that wrappers and `record` write to; removes its file on an error."""
    _TAPES.append(tape)
    try:
        yield tape
    except BaseException:
        tape.abandon()
        raise
    finally:
        _TAPES.pop()


def record(name: str, x: Any) -> Any:
    """Records a tensor of a plain function under a name, where a pass is being recorded.

    Args:
        name: What reports call it; the names of the two sides need not agree.
        x: A tensor of PyTorch, JAX or NumPy, or tuples, lists and dicts of them.

    Returns:
        `x`, to be used in its place, so that gradients are recorded as well.
    """
    tape = active()
    return x if tape is None else tape.record(name, x)


def _storable(array: np.ndarray) -> np.ndarray:
    """An array that every NumPy reads: what has no dtype there becomes float32."""
    array = np.ascontiguousarray(array).reshape(array.shape)
    if array.dtype.kind == "c":
        return np.ascontiguousarray(np.stack([np.real(array), np.imag(array)], -1))
    if array.dtype.kind not in "biuf":
        return array.astype(np.float32)
    return array


def _entry(array: np.ndarray, dtype: str) -> Entry:
    flat = array.reshape(-1).astype(np.float64)
    good = np.abs(flat) < HUGE
    odd = int(flat.size - good.sum())
    if odd:
        flat = flat[good]
    if not flat.size:
        return Entry(array.shape, dtype, (0.0, 0.0, 0.0, 0.0), 0, odd)
    # Evenly spaced, so that one large tensor costs no sort of all it has.
    sample = flat[:: max(1, flat.size // 4096)]
    moments = flat.min(), flat.max(), flat.mean(), np.sqrt((flat * flat).mean())
    low, high, mean, root = (float(each) for each in moments)
    distinct = min(64, len(np.unique(sample)))
    if array.ndim > 1 and len(array) > 1 and bool((array == array[:1]).all()):
        distinct = 1  # alike for each sample: it may say nothing of what was computed before
    return Entry(array.shape, dtype, (low, high, mean, root), distinct, odd)
