"""The routings that have a twin which never holds the votes: NAME is in `_NAME.py`."""

from parity.spec import ROUTINGS, members

__getattr__, __dir__ = members(__name__, ROUTINGS)
