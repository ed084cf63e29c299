"""What is checked: a network, its training, weights without zeros, images.

Axes: N images.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity import data, reference
from parity.compare.rungs import BATCH, SGD_RATE
from parity.saved import find
from parity.spec import NetworkSpec, TrainingSpec, TwincapsError, from_dict, preset_card, to_dict
from parity.weights import (
    SCHEMA,
    Arrays,
    check,
    draw,
    first_slots,
    generator,
    kinds,
    load_arrays,
    save_arrays,
    state,
    table,
)

FORMAT = "twincaps-subject"
TRAIN, TEST = 1000, 1000
# The step at which a ported optimiser state stands.
STEP = 5


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with everything that both wings need to compute the same.

    Attributes:
        source: Where it comes from, in words.
        weights: Canonical, float32 or float64; each precision casts them.
        images: float32 [N, H, W, C] in [0, 1], labels int64 [N]; `test` the same, for an accuracy.
        batch: Images of one step; the traces take the first batch.
    """

    source: str
    spec: NetworkSpec
    training: TrainingSpec
    weights: Arrays
    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    seed: int = 0
    batch: int = BATCH

    def at(self, step: int, brighter: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels of a step: one batch after the other, round and round.

        Images are brighter by so many 1024ths, and still in [0, 1].
        """
        places = np.arange(step * self.batch, (step + 1) * self.batch) % len(self.labels)
        more = np.float32(brighter / 1024)
        return (self.images[places] + more) / (1 + more), self.labels[places]

    def cast(self, precision: str) -> Arrays:
        """The weights in the dtype that a network of this precision has."""
        dtype = "float64" if precision == "float64" else "float32"
        return {name: array.astype(dtype) for name, array in self.weights.items()}

    def trained_by(self, optimizer: str, precision: str) -> TrainingSpec:
        """The subject's own training with another optimiser; SGD at the ladder's rate."""
        rate = SGD_RATE if optimizer == "sgd" else self.training.learning_rate
        return dataclasses.replace(
            self.training, optimizer=optimizer, precision=precision, learning_rate=rate
        )

    def fresh(self, optimizer: str, precision: str) -> dict[str, Any]:
        """The state a Trainer would begin with, with the subject's weights."""
        weights = self.cast(precision)
        every = kinds(optimizer, self.training.ema)
        slots = first_slots(every, weights, state(self.spec))
        return {"step": 0, "weights": weights, "optimizer": slots}

    def midway(self, optimizer: str, precision: str) -> dict[str, Any]:
        """A state in the middle of a run: random numbers and some zeros in every slot.

        Second moments are those of gradients from 1e-5 to 1e-1, where the place of Adam's epsilon
        can be told.
        """
        state = self.fresh(optimizer, precision)
        for name, first in state["optimizer"].items():
            # Keyed by the parameter: both of Adam's moments come from gradients of one size.
            random = generator(self.seed, f"check/{name.partition('/')[2]}")
            size = 10 ** random.uniform(-5, -1, first.shape)
            size *= random.uniform(size=first.shape) > 0.1
            sign = np.clip(random.standard_normal(first.shape), -2, 2)
            moment = size * size if name.startswith("adam.v/") else size * sign
            state["optimizer"][name] = moment.astype(first.dtype)
        return {**state, "step": STEP}

    def ported(self, precision: str) -> dict[str, Any]:
        """A state whose weights, too, have every bit of the precision."""
        state = self.midway("adam", precision)
        moments, head = state["optimizer"], "adam.m/"
        weights = {
            # State has no moment; a random number in its place too.
            name: moments[head + name]
            if head + name in moments
            else generator(self.seed, f"check/{name}").random(first.shape).astype(first.dtype)
            for name, first in state["weights"].items()
        }
        return {**state, "weights": weights}

    def save(self, path: str | os.PathLike) -> None:
        """Writes the subject to one file, for a process that computes with one wing."""
        arrays = {f"weights/{name}": array for name, array in self.weights.items()}
        arrays |= {name: getattr(self, name) for name in _ARRAYS}
        header = {name: getattr(self, name) for name in ("source", "seed", "batch")}
        specs = {"spec": to_dict(self.spec), "training": to_dict(self.training)}
        save_arrays(path, arrays, {"format": FORMAT, "schema": SCHEMA, **header, **specs})


_ARRAYS = ("images", "labels", "test_images", "test_labels")


def load(path: str | os.PathLike) -> Subject:
    """The subject in a file of `Subject.save`; raises a TwincapsError for any other."""
    arrays, header = load_arrays(path, FORMAT)
    names = ("spec", "training", "source", "seed", "batch")
    if missing := [*(set(names) - set(header)), *(set(_ARRAYS) - set(arrays))]:
        raise TwincapsError(f"{path}: a subject without {', '.join(sorted(missing))}")
    head = "weights/"
    return Subject(
        spec=from_dict(NetworkSpec, header["spec"]),
        training=from_dict(TrainingSpec, header["training"]),
        weights={n.removeprefix(head): a for n, a in arrays.items() if n.startswith(head)},
        **{name: arrays[name] for name in _ARRAYS},
        **{name: header[name] for name in ("source", "seed", "batch")},
    )


def of(
    spec: NetworkSpec,
    training: TrainingSpec | None = None,
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    source: str = "a spec",
    seed: int = 0,
    batch: int = BATCH,
) -> Subject:
    """A subject of any network; without weights, first ones with random biases and running numbers.

    Raises a TwincapsError for weights that do not fit, or are not finite.
    """
    if batch < 1 or seed < 0:
        raise TwincapsError(
            f"batch is {batch}, seed {seed}; expected a batch above 0, a seed from 0"
        )
    drawn = weights is None
    weights = ragged(spec, seed) if drawn else dict(weights)
    check(weights, table(spec), source)
    if spoilt := sorted(n for n, a in weights.items() if not np.isfinite(a).all()):
        raise TwincapsError(
            f"{source}: not finite: {', '.join(spoilt)}; there is nothing to compare"
        )
    train, test = _pictures(spec, seed)
    if drawn and state(spec):
        weights |= _running(spec, weights, *train, seed)
    return Subject(source, spec, training or TrainingSpec(), weights, *train, *test, seed, batch)


def from_preset(name: str, *, seed: int = 0, batch: int = BATCH) -> Subject:
    """The network of a preset with its training; SpecError for an unknown name."""
    card = preset_card(name)
    return of(card.network, card.training, source=f"preset {name}", seed=seed, batch=batch)


def from_saved(name: str, *, seed: int = 0, batch: int = BATCH) -> Subject:
    """A saved network with its weights (`saved.find`); raises TwincapsError."""
    saved = find(name)
    weights = {
        key: array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
        for key, array in saved.arrays.items()
    }
    return of(saved.spec, saved.training, weights, source=saved.source, seed=seed, batch=batch)


def ragged(spec: NetworkSpec, seed: int) -> Arrays:
    """First weights with noise on the constant ones: equal ones would hide a wrong axis."""
    constant = {name for name, row in table(spec).items() if row.std == row.bound == 0}
    return {
        name: array + _noise(seed, name, array.shape) if name in constant else array
        for name, array in draw(spec, seed).items()
    }


def _running(
    spec: NetworkSpec, weights: Arrays, images: np.ndarray, labels: np.ndarray, seed: int
) -> Arrays:
    """Running numbers near those of the first images, as of a network that was trained.

    With a mean of 0 and a variance of 1 a deep network of squashes dies out in evaluation: each
    makes of short vectors ones whose length is the third power, and three times the rounding. And
    where few images lie close together, far from 0, they are spread by a quarter of that distance:
    a norm magnifies rounding by as much as it does what is left of them.
    """
    # From i a step goes to keep i + (1 - keep) times the batch's: both parts of it are to be had.
    begun = weights | {name: np.full(weights[name].shape, 1j) for name in state(spec)}
    step = reference.forward(spec, begun, images[:8], labels[:8], train=True)
    batch = {name: np.real(step[name]) / (1 - np.imag(step[name])) for name in state(spec)}
    running = {}
    for name, number in batch.items():
        norm, _, part = name.rpartition(".")
        variance = batch[f"{norm}.variance"] + (batch[f"{norm}.mean"] / 4) ** 2
        number, size = (number, np.sqrt(variance)) if part == "mean" else (variance, variance)
        noise = _noise(seed, f"running/{name}", number.shape)
        running[name] = (number + noise * size).astype(np.float32)
    return running


def _noise(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    random = generator(seed, f"check/{name}")
    return 0.05 * random.standard_normal(shape).astype(np.float32)


def _pictures(spec: NetworkSpec, seed: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Training and test images with labels.

    The digits of mnist-mini where the network takes them, else a random pattern for each class
    under noise.
    """
    if spec.image == (28, 28, 1) and spec.classes == 10:
        digits = data.load("mnist-mini")
        sizes = (digits.train, TRAIN), (digits.test, TEST)
        return tuple(
            (np.divide(split.images[:n], 255, dtype=np.float32), split.labels[:n].astype(np.int64))
            for split, n in sizes
        )
    random = generator(seed, "check/images")
    patterns = random.random((spec.classes, *spec.image), np.float32)

    def under_noise(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = random.integers(spec.classes, size=count)
        noise = random.random((count, *spec.image), np.float32)
        return (0.4 * patterns[labels] + 0.6 * noise).astype(np.float32), labels

    return under_noise(TRAIN), under_noise(TEST)
