"""Saved networks, found by name, run, checkpoint or file; those that come with twincaps."""

from parity.saved._find import Known, find

__all__ = ["Known", "find"]
