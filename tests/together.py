"""Twenty steps of small trainings, by this process or together with others.

python tests/together.py BACKEND PRECISION FOLDER CASE ..., by any launcher: the first process
writes what each of these `CASES` ended with to FOLDER/CASE.npz.
"""

import dataclasses
import importlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from specs import KINDS

from parity.spec import Conv, Depthwise, Efficient, NetworkSpec, Norm, Primary, TrainingSpec
from parity.wing import processes

STEPS, BATCH, CLASSES = 20, 6, 5
SPEC = NetworkSpec(
    image=(11, 9, 1),
    stem=(Conv(5, 3),),
    primary=Primary(types=3, size=4, kernel=3),
    classes=CLASSES,
    pose=5,
    decoder=(7,),
)
# With a batch norm, which sums over all processes.
NORMAL = Efficient(
    image=SPEC.image,
    stem=(Conv(5, 3), Conv(6, 2)),
    primary=Depthwise(types=3, size=2, kernel=6),
    classes=CLASSES,
    pose=5,
    decoder=(7,),
)
# A bias before a batch norm: its gradient is 0 but for rounding.
FREE = dataclasses.replace(NORMAL, norm=Norm(first=True))
TRAINING = TrainingSpec(batch_size=BATCH, learning_rate=0.01)


@dataclass(frozen=True)
class Case:
    """A training: what differs from `TRAINING`, and how it is computed."""

    training: dict[str, Any]
    how: dict[str, Any] = field(default_factory=dict)
    pairs: bool = False  # images of two classes each
    spec: NetworkSpec = SPEC


CASES = {
    "adamw-pairs": Case({"optimizer": "adamw", "clip_norm": 0.1, "ema": 0.9}, pairs=True),
    "sgd-plain": Case({"optimizer": "sgd"}, {"lean": False}),
    "sgd-normal": Case({"optimizer": "sgd", "ema": 0.9}, spec=NORMAL),
    "adam-normal": Case({"optimizer": "adam", "epsilon": 1e-7, "epsilon_hat": True}, spec=NORMAL),
    "adam-free": Case({"optimizer": "adam"}, spec=FREE),
}
# One of each kind of network. At a rate of 0.01 inverted attention makes three times as much of a
# rounding at each step, in one process as in two; at this one it does not.
KIND = {"optimizer": "sgd", "learning_rate": 1e-4, "spread": "linear", "spread_steps": 10}
CASES |= {f"kind-{name}": Case(KIND, spec=spec) for name, spec in KINDS.items()}


def batch(step: int, spec: NetworkSpec, pairs: bool) -> tuple[np.ndarray, np.ndarray, Any]:
    """Images, targets and parts of a whole batch."""
    random, classes = np.random.default_rng(step), spec.classes
    images = random.random((BATCH, *spec.image), np.float32)
    if not pairs:
        return images, random.integers(0, classes, BATCH), None
    labels = np.stack([random.permutation(classes)[:2] for _ in range(BATCH)])
    parts = random.random((BATCH, 2, *spec.image), np.float32)
    return images, np.eye(classes, dtype=np.int64)[labels].sum(1), (labels, parts)


def train(backend: str, case: str, precision: str, group: Any = None) -> dict[str, np.ndarray]:
    """The end of a case: weights, optimiser's slots, what each step and an evaluation measured."""
    asked = CASES[case]
    training = dataclasses.replace(TRAINING, precision=precision, **asked.training)
    how = asked.how if group is None else {**asked.how, "group": group}
    wing = importlib.import_module(f"{backend}_caps.training")
    trainer, rows = wing.Trainer(asked.spec, training, **how), processes.rows(group, BATCH)

    def mine(step: int) -> tuple[Any, ...]:
        images, targets, parts = batch(step, asked.spec, asked.pairs)
        own = None if parts is None else tuple(each[rows] for each in parts)
        return images[rows], targets[rows], own

    steps = [trainer.step(*mine(step)) for step in range(STEPS)]
    images, targets, parts = mine(STEPS)
    weights = np.array([1, 1, 1, 1, 0, 0], np.float32)[rows]  # as of the rest of a test set
    tested = trainer.evaluate(images, targets, weights, parts)
    state = trainer.get_state()
    told = {name: np.array([each[name] for each in steps]) for name in steps[0]}
    told |= {f"test/{name}": np.array(value) for name, value in tested.items()}
    return {**state["weights"], **state["optimizer"], **told}


def main(backend: str, precision: str, folder: str, *cases: str) -> None:
    importlib.import_module(f"{backend}_caps.numerics").strict(precision)
    place = processes.place()
    assert place is not None
    address = processes.address(backend)
    join = importlib.import_module(f"{backend}_caps.processes").join
    group = join(place.rank, place.count, place.local, address)
    with processes.parting(group):
        for case in cases:
            found = train(backend, case, precision, group)
            if place.rank == 0:
                np.savez(Path(folder) / f"{case}.npz", **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
