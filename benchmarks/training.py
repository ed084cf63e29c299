"""What is measured through a Trainer, the same for either wing: a step, an evaluation, the loop."""

import itertools
from collections.abc import Callable
from typing import Any

from benchmarks import arrays
from benchmarks.contract import Run
from parity import loop as training_loop
from parity.data import Dataset, batches
from parity.loop import scoring
from parity.spec import NetworkSpec, Precision, TrainingSpec, from_dict

MakeTrainer = Callable[..., Any]


def step(
    make: MakeTrainer,
    spec: Any,
    batch: int,
    precision: Precision,
    lean: bool = True,
    **options: Any,
) -> Run:
    """A training step, each call on the next of four batches, as `Trainer.step` takes them."""
    network = from_dict(NetworkSpec, spec)
    training = TrainingSpec(batch_size=batch, precision=precision)
    trainer = make(network, training, lean=lean, **options)
    made = list(batches.evaluation(arrays.images(network, 4 * batch), batch))
    turn = itertools.cycle(made)

    def run() -> None:
        each = next(turn)
        trainer.step(each.images, each.labels)

    return run


def evaluate(make: MakeTrainer, spec: Any, batch: int, images: int) -> Run:
    """`parity.loop.scoring.evaluate` of that many images, making of batches included."""
    network = from_dict(NetworkSpec, spec)
    trainer = make(network, TrainingSpec(batch_size=batch))
    split = arrays.images(network, images)

    def run() -> None:
        scoring.evaluate(trainer, split, batch)

    return run


def _epoch(spec: Any, batch: int, steps: int) -> tuple[NetworkSpec, TrainingSpec, Dataset]:
    network = from_dict(NetworkSpec, spec)
    training = TrainingSpec(batch_size=batch, epochs=1)
    return network, training, arrays.dataset(network, steps * batch, 1)


def loop(make: MakeTrainer, spec: Any, batch: int, steps: int) -> Run:
    """An epoch of the training loop, which tells the share of its `waiting` for batches."""
    network, training, dataset = _epoch(spec, batch, steps)
    trainer = make(network, training)

    def run() -> dict[str, float]:
        history = training_loop.train(trainer, dataset, progress=False)
        return {"waiting": history.waiting, "step": history.seconds / steps}

    return run


def make_batches(spec: Any, batch: int, steps: int) -> Run:
    """The batches of an epoch alone: shuffled, shifted, as numbers in [0, 1]."""
    _, training, dataset = _epoch(spec, batch, steps)
    epochs = itertools.count()

    def run() -> None:
        for _ in batches.training(dataset.train, training, next(epochs)):
            pass

    return run
