"""Where a training stands, and the words for where and why it ends there."""

from dataclasses import dataclass
from pathlib import Path

from parity.runs import checkpoints

FIX = "try a smaller --learning-rate, or --clip-norm 1"


@dataclass
class Place:
    """Steps done in all, whole epochs done, and batches done of the next one.

    Attributes:
        folder: Of the run, None without one.
        checkpoint: The last whole one, None before the first.
    """

    folder: Path | None = None
    checkpoint: Path | None = None
    step: int = 0
    epoch: int = 0
    cursor: int = 0

    def __str__(self) -> str:
        return f"step {self.step} of epoch {self.epoch + 1}"

    def interrupted(self) -> str:
        """The message of a signal, and how to go on."""
        if self.folder is None:
            return f"stopped after {self}; nothing was saved, as there is no run folder"
        return f"stopped after {self}; go on with: python -m parity train --resume {self.folder}"

    def parted(self, reason: str) -> str:
        """The message where another process is gone, and how to go on."""
        message = f"another process is gone after {self} ({reason})"
        if self.folder is None:
            return message
        paths = checkpoints.listed(self.folder / "checkpoints")
        last = f"the last checkpoint is {paths[-1]}" if paths else "there is no checkpoint"
        return (
            f"{message}; {last}; go on with: --resume {self.folder}, with as many processes as "
            "you like"
        )

    def not_finite(self, what: str, cause: str) -> str:
        """The message where a number is not finite.

        Args:
            what: The number, and its step.
            cause: The first tensor that was not finite, "" where that is not known.
        """
        last = "there is no checkpoint before it"
        if self.checkpoint is not None:
            last = f"the last good checkpoint is {self.checkpoint}"
        return "; ".join(filter(None, (what, cause, last, FIX)))
