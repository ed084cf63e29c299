"""The run folder: whole at every instant, verified when read."""

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
