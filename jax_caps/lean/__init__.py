"""Routings that never store the votes: function NAME of the file `_NAME.py`."""

from parity.spec import ROUTINGS, members

__getattr__, __dir__ = members(__name__, ROUTINGS)
