"""The optimiser's slots of each parameter, under one name in both wings."""

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from parity.spec import NetworkSpec, Tensor
from parity.weights._table import Arrays, table

# The arrays an optimiser keeps for each parameter, the same in both wings.
SLOTS = {"adam": ("adam.m", "adam.v"), "adamw": ("adam.m", "adam.v"), "sgd": ("sgd.momentum",)}
AVERAGE = "ema"


def kinds(optimizer: str, ema: float | None = None) -> tuple[str, ...]:
    """The slots of each parameter: the optimiser's, and `ema` where it is kept."""
    return SLOTS[optimizer] if ema is None else (*SLOTS[optimizer], AVERAGE)


def slots(spec: NetworkSpec, optimizer: str, ema: float | None = None) -> dict[str, Tensor]:
    """`slot/name` -> Tensor for all that a training remembers beside the weights.

    Each begins at 0, an average at the first weights. State, which no optimiser moves, has an
    average alone.
    """
    rows = table(spec).items()
    return {
        f"{kind}/{name}": row
        for kind in kinds(optimizer, ema)
        for name, row in rows
        if row.trained or kind == AVERAGE
    }


def first_slots(
    kinds: Iterable[str], weights: Mapping[str, np.ndarray], state: Collection[str] = ()
) -> Arrays:
    """The slots before the first step: zeros, and the weights for an average.

    Args:
        kinds: Of `kinds(optimizer, ema)`.
        weights: The first weights.
        state: The names of those that no optimiser moves (`state`).
    """
    return {
        f"{kind}/{name}": array if kind == AVERAGE else np.zeros_like(array)
        for kind in kinds
        for name, array in weights.items()
        if kind == AVERAGE or name not in state
    }


def averages(optimizer: Mapping[str, np.ndarray]) -> Arrays:
    """The averaged weights among these slots, by the names of the weights.

    Empty where weights are not averaged.
    """
    head = f"{AVERAGE}/"
    return {n.removeprefix(head): a for n, a in optimizer.items() if n.startswith(head)}
