"""MATLAB's files, through SciPy."""

import io
from typing import Any

from parity.data.splits import DataError


def loads(content: bytes, what: str) -> dict[str, Any]:
    """The variables of a .mat file of versions 4 to 7; DataError without SciPy or where broken."""
    try:
        import scipy.io
    except ImportError as error:
        raise DataError(f"{what}: reading it needs SciPy; pip install twincaps[data]") from error
    try:
        return scipy.io.loadmat(io.BytesIO(content))
    except Exception as error:  # a broken file may raise anything
        raise DataError(f"{what}: not a whole MATLAB file ({error})") from error
