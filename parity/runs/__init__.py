"""The run folder: what a training leaves behind, whole at every instant and checked when read."""

from parity.runs.checkpoints import Checkpoint
from parity.runs.disk import RunError, RunWarning
from parity.runs.folder import Run, chosen, holds_run, refuse_occupied

__all__ = [
    "Checkpoint",
    "Run",
    "RunError",
    "RunWarning",
    "chosen",
    "holds_run",
    "refuse_occupied",
]
