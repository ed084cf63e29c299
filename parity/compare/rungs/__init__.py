"""The rungs of the ladder: a file for those that are alike, and the table of tolerances."""

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
