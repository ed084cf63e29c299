"""Somebody else's squash, dynamic routing or margin loss against the oracle, and what is wrong."""

from parity.conformance.calling import ConformanceError
from parity.conformance.command import main
from parity.conformance.judging import Report, Row, check_callable

__all__ = ["ConformanceError", "Report", "Row", "check_callable", "main"]
