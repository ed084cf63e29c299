"""Finds the first tensor of a training that is not finite.

The steps since the newest checkpoint are done again, one after the other, which is the same to
the last bit, until one spoils the loss or a weight; that step is then looked at from inside.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from parity import weights
from parity.data import Batch, Dataset, batches
from parity.runs import Run
from parity.spec import NetworkSpec, TrainingSpec

MOST = 5000  # steps that are done again
HEAD = "parameter/"


def first_state(spec: NetworkSpec, training: TrainingSpec) -> dict[str, Any]:
    """The state that every Trainer begins with."""
    drawn = weights.draw(spec, training.seed)
    kinds = weights.kinds(training.optimizer, training.ema)
    slots = weights.first_slots(kinds, drawn, weights.state(spec))
    return {"step": 0, "weights": drawn, "optimizer": slots}


def drawn(state: Mapping[str, Any], spec: NetworkSpec, training: TrainingSpec) -> bool:
    """Whether a state is the one that the seed of a training draws, to the last bit."""
    first = first_state(spec, training)
    return state["step"] == 0 and all(
        state[group].keys() == first[group].keys()
        and all(np.array_equal(state[group][name], array) for name, array in first[group].items())
        for group in ("weights", "optimizer")
    )


def since(
    trainer: Any, dataset: Dataset, run: Run | None, began: Mapping[str, Any] | None, done: int
) -> str:
    """The first tensor not finite since the newest checkpoint, in words, or "".

    Args:
        trainer: The one that met it; its state is another afterwards.
        dataset: What it trains on.
        run: With its checkpoints, if there is a run.
        began: The state where training began, if there is no checkpoint; None for the one that its
            seed draws.
        done: Steps, with the one at fault.
    """
    step = epoch = cursor = 0
    try:
        if run is not None and (checkpoint := run.newest()) is not None:
            state, where = checkpoint.trainer_state, checkpoint.state
            step, epoch, cursor = where.step, where.epoch, where.cursor
        else:
            state = began or first_state(trainer.spec, trainer.training)
        return first_fault(trainer, dataset, state, (epoch, cursor), done - step)
    except Exception as error:  # the fault itself is reported even where this search fails
        return f"the first such tensor could not be found ({error})"


def first_fault(
    trainer: Any, dataset: Dataset, state: Mapping[str, Any], place: tuple[int, int], steps: int
) -> str:
    """The first tensor that is not finite from a state on, and its step, in words.

    "" where there is none, there are too many steps, or the Trainer has no `trace`.

    Args:
        trainer: Whose steps are made again; its state is another afterwards.
        dataset: What it trains on.
        state: Where to begin.
        place: Whole epochs done at this state, and batches done of the next one.
        steps: How many to make.
    """
    if steps > MOST or not hasattr(trainer, "trace"):
        return ""
    trainer.set_state(state)
    for step, batch in zip(range(steps), _from(dataset, trainer.training, *place), strict=False):
        before = trainer.get_state()
        loss = trainer.step(batch.images, batch.labels, batch.made_of)["loss"]
        after = trainer.get_state()
        if not math.isfinite(loss) or spoilt(after["weights"]) or spoilt(after["optimizer"]):
            trainer.set_state(before)
            values, gradients = trainer.trace(batch.images, batch.labels, batch.made_of)
            name = (
                named(values, gradients) or spoilt(after["weights"]) or spoilt(after["optimizer"])
            )
            at = state["step"] + step + 1
            return f"the first tensor that is not finite is {name}, in step {at}"
    return ""


def named(values: weights.Arrays, gradients: weights.Arrays) -> str:
    """The first tensor not finite: parameters, then forward, then backward."""
    taps = [name for name in values if not name.startswith(HEAD)]
    parameters = [name for name in values if name.startswith(HEAD)]
    for name in (*parameters, *taps):
        if not np.isfinite(values[name]).all():
            return f"{name.removeprefix(HEAD)} (forward)"
    for name in (*reversed(taps), *reversed(parameters)):
        if not np.isfinite(gradients[name]).all():
            return f"{name.removeprefix(HEAD)} (its gradient)"
    return ""


def spoilt(arrays: Mapping[str, np.ndarray]) -> str:
    """The first of these names whose array is not finite, "" if there is none."""
    return next((name for name, array in arrays.items() if not np.isfinite(array).all()), "")


def _from(dataset: Dataset, training: TrainingSpec, epoch: int, cursor: int) -> Iterator[Batch]:
    while True:
        yield from batches.training(dataset.train, training, epoch, cursor)
        epoch, cursor = epoch + 1, 0
