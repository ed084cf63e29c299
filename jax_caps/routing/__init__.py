"""The routings of `parity.spec.ROUTINGS`: function NAME of the file `_NAME.py`."""

from parity.spec import ROUTINGS, members

__getattr__, __dir__ = members(__name__, ROUTINGS)
