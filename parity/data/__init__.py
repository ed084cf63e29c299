"""Data sets as NumPy arrays, and one deterministic order of batches and augmentation."""

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
