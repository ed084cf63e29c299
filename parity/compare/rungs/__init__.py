"""The rungs of the ladder, those that are alike in one file, and their table."""

from parity.compare.rungs.table import (
    ADAM_STEPS,
    BATCH,
    GPU_STEPS,
    RESUMED_STEPS,
    RUNGS,
    SGD_RATE,
    SGD_STEPS,
    SHARE_OF_LARGEST,
    Rung,
)

__all__ = [
    "ADAM_STEPS",
    "BATCH",
    "GPU_STEPS",
    "RESUMED_STEPS",
    "RUNGS",
    "SGD_RATE",
    "SGD_STEPS",
    "SHARE_OF_LARGEST",
    "Rung",
]
