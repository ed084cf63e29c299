"""The ladder: the same network, weights and batch in both wings, and the first that differs."""

from parity.compare.ascent import MODES, PRECISIONS, Report, ladder
from parity.compare.first import First, first_difference
from parity.compare.oracle import Verdict, verdict
from parity.compare.rungs import RUNGS
from parity.compare.subject import Subject
from parity.compare.traces import Trace, TraceError
from parity.difference import difference

__all__ = [
    "MODES",
    "PRECISIONS",
    "RUNGS",
    "First",
    "Report",
    "Subject",
    "Trace",
    "TraceError",
    "Verdict",
    "difference",
    "first_difference",
    "ladder",
    "verdict",
]
