"""The ladder: one network in both wings, and the first tensor that differs."""

from parity.compare._ladder import MODES, PRECISIONS, Report, ladder
from parity.compare.rungs import RUNGS
from parity.compare.subject import Subject
from parity.traces.first import First, first_difference
from parity.traces.measure import difference
from parity.traces.oracle import Verdict, verdict
from parity.traces.recording import Trace, TraceError

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
