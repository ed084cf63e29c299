"""Data sets as NumPy arrays, in one deterministic order of batches."""

from importlib.util import find_spec
from types import ModuleType

from parity import moved
from parity.data._fingerprint import changed, fingerprint, renamed
from parity.data.registry import Entry, entry, load, names
from parity.data.splits import Batch, DataError, Dataset, DataWarning, Split, from_arrays

__all__ = [
    "Batch",
    "DataError",
    "DataWarning",
    "Dataset",
    "Entry",
    "Split",
    "changed",
    "entry",
    "fingerprint",
    "from_arrays",
    "load",
    "names",
    "renamed",
]


def __getattr__(name: str) -> ModuleType:
    # Data sets and formats were modules here before 0.2.
    for room in ("sets", "formats"):
        if not name.startswith("_") and find_spec(f"parity.data.{room}.{name}") is not None:
            return moved(f"parity.data.{name}", f"parity.data.{room}.{name}")
    raise AttributeError(f"module 'parity.data' has no attribute {name!r}")
