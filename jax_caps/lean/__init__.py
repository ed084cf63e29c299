"""Routing that never holds the votes: NAME of ROUTINGS, if it has such a twin, is in `_NAME.py`."""

from parity.spec import ROUTINGS, members

__getattr__, __dir__ = members(__name__, ROUTINGS)
