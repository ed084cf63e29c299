"""Figures of a run: each file draws one from arrays; album.py chooses which."""

from parity.figures._couplings import couplings

__all__ = ["couplings"]
