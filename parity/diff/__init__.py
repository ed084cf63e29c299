"""The first difference of any two models, of PyTorch, Flax, Equinox, JAX or NumPy."""

from parity.diff.door import models, trace
from parity.diff.report import Difference, Report, Row
from parity.diff.tape import record
from parity.diff.trace import DiffError

__all__ = ["DiffError", "Difference", "Report", "Row", "models", "record", "trace"]
