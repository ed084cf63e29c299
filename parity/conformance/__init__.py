"""Somebody else's squash, routing or margin loss, checked against the oracle."""

from parity.conformance.command import main
from parity.conformance.judging import Report, Row, check_callable
from parity.conformance.kinds import ConformanceError

__all__ = ["ConformanceError", "Report", "Row", "check_callable", "main"]
