"""Networks as they were saved, found by NAME, RUN, checkpoint or file."""

from parity.saved._find import Known, find

__all__ = ["Known", "find"]
