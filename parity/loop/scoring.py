"""How good a Trainer is on a split: exact means, over every image."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from parity import weights
from parity.data import Batch, Split, batches
from parity.wing import processes
from parity.wing.trainer import Trainer


def evaluate(trainer: Trainer, split: Split, batch_size: int) -> dict[str, Any]:
    """Mean loss and accuracy over every image of a split, and their count: exact, no rounding
    of the last batch.
    """
    rows = processes.rows(processes.group_of(trainer), batch_size)
    return total(trainer, batches.evaluation(split, batch_size, rows))


@contextlib.contextmanager
def averaged(trainer: Trainer) -> Iterator[None]:
    """Puts the averages of a Trainer in the place of its weights, and all back as it was."""
    state = trainer.get_state()
    trainer.set_state({**state, "weights": weights.averages(state["optimizer"])})
    try:
        yield
    finally:
        trainer.set_state(state)


def total(trainer: Trainer, padded: Iterable[Batch]) -> dict[str, Any]:
    """The same of batches whose filled-up rows have weight 0 (`batches.evaluation`)."""
    sums = {"loss": 0.0, "correct": 0.0, "count": 0.0}
    for batch in padded:
        found = trainer.evaluate(batch.images, batch.labels, batch.weights, batch.made_of)
        for name, value in found.items():
            sums[name] += float(value)
    count = round(sums["count"])
    return {
        "loss": sums["loss"] / count,
        "accuracy": round(sums["correct"]) / count,
        "count": count,
    }
