"""A pure function for each routing of `parity.spec.ROUTINGS`: NAME is in `_NAME.py`."""

from parity.spec import ROUTINGS, members

__getattr__, __dir__ = members(__name__, ROUTINGS)
