"""Pickles of arrays, without the rest of what a pickle can do: nothing in one is ever run."""

import io
import pickle
from typing import Any

import numpy as np

from parity.data.splits import DataError

_RECONSTRUCT = np.empty(0).__reduce__()[0]

# Everything a pickled array refers to, under the names of NumPy 1 and of NumPy 2.
ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return ALLOWED[module_name, global_name]
        except KeyError:
            raise DataError(
                f"it refers to {module_name}.{global_name}, expected plain values and NumPy arrays"
            ) from None


def loads(content: bytes, what: str) -> Any:
    """Plain values and arrays in a pickle, strings of Python 2 as bytes; DataError for all else."""
    try:
        return _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a broken pickle may raise anything
        raise DataError(f"{what}: not a pickle of arrays ({error})") from error
