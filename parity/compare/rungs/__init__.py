"""The rungs of the ladder: what each compares, and how far apart the two wings may be there."""

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
