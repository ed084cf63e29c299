"""How good a Trainer is on a split: exact means, over every image."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from parity import weights
from parity.data import Batch, Dataset, Split, batches
from parity.wing import processes
from parity.wing.trainer import Trainer


def evaluate(trainer: Trainer, split: Split, batch_size: int) -> dict[str, Any]:
    """Mean loss and accuracy over every image of a split, and their count.

    The means are exact: rows that fill up the last batch have weight 0.
    """
    rows = processes.rows(processes.group_of(trainer), batch_size)
    return total(trainer, batches.evaluation(split, batch_size, rows))


@contextlib.contextmanager
def averaged(trainer: Trainer) -> Iterator[None]:
    """Swaps a Trainer's weights for their averages inside the block."""
    state = trainer.get_state()
    trainer.set_state({**state, "weights": weights.averages(state["optimizer"])})
    try:
        yield
    finally:
        trainer.set_state(state)


def epoch_scores(
    trainer: Trainer,
    dataset: Dataset,
    score: Callable[[str], dict[str, Any]],
    *,
    averages: bool,
) -> tuple[dict[str, Any], dict[str, float]]:
    """What an epoch ends with: the test scores, and the rest of its line of metrics.

    Args:
        trainer: Whose weights, and moving averages where there are some.
        dataset: With its test split, and the images held out for validation, if any.
        score: Loss, accuracy and count of the present weights on a split of this name.
        averages: Whether the weights are averaged, which are then scored beside them.

    Returns:
        The scores on the test set; and by their names in metrics.jsonl `validation_accuracy`,
        `ema_loss`, `ema_accuracy`, `ema_validation_accuracy`, those that there are.
    """

    def validated(whose: str) -> dict[str, float]:
        if dataset.validation is None:
            return {}
        return {f"{whose}validation_accuracy": score("validation")["accuracy"]}

    test_scores, more = score("test"), validated("")
    if averages:
        with averaged(trainer):
            scores = score("test")
            more |= {f"{weights.AVERAGE}_{name}": scores[name] for name in ("loss", "accuracy")}
            more |= validated(f"{weights.AVERAGE}_")
    return test_scores, more


def validation_accuracy(more: dict[str, float]) -> float | None:
    """The better validation accuracy of weights and averages; None without one."""
    names = "validation_accuracy", f"{weights.AVERAGE}_validation_accuracy"
    return max((more[name] for name in names if name in more), default=None)


def total(trainer: Trainer, padded: Iterable[Batch]) -> dict[str, Any]:
    """The same of batches whose filled-up rows have weight 0 (`batches.evaluation`)."""
    sums = {"loss": 0.0, "correct": 0.0, "count": 0.0}
    for batch in padded:
        batch_sums = trainer.evaluate(batch.images, batch.labels, batch.weights, batch.made_of)
        for name, value in batch_sums.items():
            sums[name] += float(value)
    count = round(sums["count"])
    return {
        "loss": sums["loss"] / count,
        "accuracy": round(sums["correct"]) / count,
        "count": count,
    }
