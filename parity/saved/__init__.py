"""Saved networks, by name, run, checkpoint or file; the package's own too."""

from parity.saved._find import Known, find

__all__ = ["Known", "find"]
