"""Pickles of arrays, read without running anything in them.

Before anything is made of one, its operations are read through: each has the bytes it claims.
What it calls are functions of this file alone, which look at their arguments.
"""

import io
import math
import pickle
import pickletools
import re
from typing import Any

import numpy as np

from parity.data.splits import DataError

PUTS = ("PUT", "BINPUT", "LONG_BINPUT")


def refuse_swollen(content: bytes | io.BytesIO) -> None:
    """Raises ValueError where a pickle claims more bytes or memo than it has.

    Of a file, the one at its place, which moves behind it.
    """
    for count, (operation, argument, _) in enumerate(pickletools.genops(content), 1):
        # The unpickler makes a memo as large as the largest place that is named.
        if operation.name in PUTS and isinstance(argument, int) and argument > count:
            raise ValueError(f"place {argument} in the memo of a pickle of {count} operations")


class _Dtype:
    """A plain dtype: its name, then its order of bytes."""

    def __init__(self, name: str | bytes, *_: Any) -> None:
        text = name.decode() if isinstance(name, bytes) else name
        if not re.fullmatch(r"[<>|=]?([biufc]\d{1,2}|[SU]\d{1,4})", text):
            raise ValueError(f"dtype {text!r}; expected numbers or text")
        self.plain = np.dtype(text)

    def __setstate__(self, state: tuple) -> None:
        order = state[1].decode() if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"order of bytes {order!r}")
        self.plain = self.plain.newbyteorder(order)


class _Array(np.ndarray):
    """An array of the bytes beside its shape, if they are as many as it needs."""

    def __setstate__(self, state: tuple) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        _, shape, dtype, fortran, content = state
        if isinstance(content, str):  # of Python 2, where it was text
            content = content.encode("latin1")
        sizes = [size for size in shape if type(size) is int and size >= 0]
        if len(sizes) != len(shape) or not isinstance(dtype, _Dtype) or type(content) is not bytes:
            raise ValueError(f"an array of shape {shape!r}")
        if math.prod(sizes) * dtype.plain.itemsize != len(content):
            raise ValueError(f"{len(content)} bytes for {shape!r} of {dtype.plain}")
        whole: Any = (1, tuple(sizes), dtype.plain, bool(fortran), content)
        super().__setstate__(whole)


class _Kind:
    """The name of NumPy's array, which may not be called."""


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray:
    if kind is not _Kind or shape != (0,) or code not in (b"b", "b"):
        raise ValueError("an array that is not made as NumPy makes them")
    return np.ndarray.__new__(_Array, (0,), np.int8)


# Everything a pickled array refers to, under the names of NumPy 1 and of NumPy 2.
ALLOWED = {
    ("numpy", "ndarray"): _Kind,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
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
    """The plain values and arrays in a pickle; DataError for anything else.

    Strings of Python 2 come as bytes.
    """
    try:
        refuse_swollen(content)
        value = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a broken pickle may raise anything
        raise DataError(f"{what}: not a pickle of arrays ({error})") from error
    if isinstance(value, dict):
        return {k: v.view(np.ndarray) if isinstance(v, _Array) else v for k, v in value.items()}
    return value.view(np.ndarray) if isinstance(value, _Array) else value
