"""A Trainer in NumPy: a softmax regression inside a capsule network's tensors.

It learns, its steps depend on every tensor of its state, and it is as deterministic as a wing.
"""

import dataclasses

import numpy as np

from parity import weights
from parity.data import Dataset, from_arrays
from parity.schedule import learning_rate
from parity.spec import Conv, NetworkSpec, Preset, Primary, TrainingSpec

SPEC = NetworkSpec(
    image=(5, 7, 1),
    stem=(Conv(2, 3),),
    primary=Primary(types=2, size=3, kernel=3, stride=1),
    classes=3,
    pose=1,
    decoder=(),
)
TRAINING = TrainingSpec(
    dataset="fake", epochs=3, batch_size=4, learning_rate=0.5, shift=0, seed=11, optimizer="sgd"
)
# The same network for digits; its recipe is kept apart from the preset by a data set's own.
PRESET = Preset(
    dataclasses.replace(SPEC, image=(28, 28, 1), classes=10),
    dataclasses.replace(TRAINING, seed=0),
    *("ours", "none", "", ""),
)


def dataset(train: int = 23, test: int = 7) -> Dataset:
    """Blank images with a mark in one of three places; the label is the place."""
    random = np.random.default_rng(5)

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % 3
        images = random.uniform(0, 0.5, (count, 5, 7, 1)).astype(np.float32)
        images[np.arange(count), 2, 2 * labels + 1] = 1.0
        return images, labels

    return from_arrays(*split(train), *split(test), name="fake")


class Trainer:
    """Regresses the label on the pixels: its matrix is the decoder's kernel, [classes, pixels].

    `at` maps a step to what is to happen in it: a function of the trainer, called before it.
    """

    def __init__(self, spec=SPEC, training=TRAINING, *, device="cpu", compile=False, **_):
        self.spec, self.training, self.steps = spec, training, 0
        self.arrays = weights.draw(spec, training.seed)
        kinds = weights.kinds("sgd", training.ema)
        self.slots = {n: a.copy() for n, a in weights.first_slots(kinds, self.arrays).items()}
        self.at = {}

    def _probabilities(self, images):
        pixels = images.reshape(len(images), -1)
        scores = pixels @ self.arrays["decoder.0.kernel"].T
        powers = np.exp(scores - scores.max(1, keepdims=True))
        return pixels, powers / powers.sum(1, keepdims=True)

    def step(self, images, targets, parts=None):
        self.at.get(self.steps + 1, lambda _: None)(self)
        pixels, p = self._probabilities(images)
        one_hot = np.eye(p.shape[1], dtype=np.float32)[targets]
        rate = learning_rate(self.training, self.steps)
        for name, array in self.arrays.items():
            slope = (p - one_hot).T @ pixels / len(p) if name == "decoder.0.kernel" else array / 97
            slot = self.slots[f"sgd.momentum/{name}"]
            slot[...] = 0.5 * slot + slope
            array -= rate * slot
            if self.training.ema is not None:
                average = self.slots[f"ema/{name}"]
                average += (1 - self.training.ema) * (array - average)
        self.steps += 1
        loss = float(-np.log(p[np.arange(len(p)), targets]).mean())
        return {
            "loss": loss,
            "accuracy": float((p.argmax(1) == targets).mean()),
            "learning_rate": rate,
        }

    def poses(self, images):
        return self._probabilities(images)[1][:, :, None]

    def evaluate(self, images, targets, weights_B, parts=None):
        _, p = self._probabilities(images)
        loss = -np.log(p[np.arange(len(p)), targets])
        right = p.argmax(1) == targets
        return {
            "loss": float((loss * weights_B).sum()),
            "correct": float((right * weights_B).sum()),
            "count": float(weights_B.sum()),
        }

    def get_state(self):
        return {
            "step": self.steps,
            "weights": {name: array.copy() for name, array in self.arrays.items()},
            "optimizer": {name: array.copy() for name, array in self.slots.items()},
        }

    def set_state(self, state):
        for group, held in (("weights", self.arrays), ("optimizer", self.slots)):
            shapes = {name: array.shape for name, array in state[group].items()}
            assert shapes == {name: array.shape for name, array in held.items()}
        self.steps = state["step"]
        self.arrays = {name: array.copy() for name, array in state["weights"].items()}
        self.slots = {name: array.copy() for name, array in state["optimizer"].items()}
