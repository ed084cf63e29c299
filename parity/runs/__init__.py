"""The run folder: what a training leaves behind, whole at every instant and checked when read."""

from parity.runs.checkpoints import Checkpoint
from parity.runs.disk import RunError, RunWarning
from parity.runs.folder import Run, holds_run, refuse_occupied

__all__ = [
    "Checkpoint",
    "Run",
    "RunError",
    "RunWarning",
    "holds_run",
    "refuse_occupied",
]
