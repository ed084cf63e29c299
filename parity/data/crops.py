"""Splits whose training images are random windows of what is stored."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from parity.data import lighting
from parity.data.splits import Batch, Split, pixels
from parity.data.windows import cut

# A window's (top, left), and how it is lit.
LIT = np.dtype([("corner", np.int64, 2), ("brightness", float), ("contrast", float)])


@dataclass(frozen=True, eq=False, repr=False)
class Cropped(Split):
    """Windows of `size`, height and width: random in training, else the middle.

    The window's place is the augmentation: a run's `shift` does not come on top of it. With
    `augment` "efficient" or "lighting", brightness and contrast do: of the window, or of the whole
    image before it is cut.
    """

    size: tuple[int, int]

    augmentations: ClassVar[tuple[str, ...]] = ("shift", *lighting.RANGES)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels of a window."""
        return (*self.size, self.images.shape[3])

    @property
    def _room(self) -> np.ndarray:
        return np.array(self.images.shape[1:3]) - self.size

    @functools.cached_property
    def _deviations(self) -> np.ndarray:
        return lighting.deviations(self.images)

    def draw(self, random: np.random.Generator, shift: int) -> np.ndarray:
        """The window's (top, left) at each place of an epoch, [N, 2], uniform; or `LIT` [N]."""
        corners = random.integers(0, self._room, (len(self), 2), endpoint=True)
        if self.augment == "shift":
            return corners
        rows = np.empty(len(self), LIT)
        rows["corner"] = corners
        rows["brightness"], rows["contrast"] = lighting.draw(random, len(self), self.augment)
        return rows

    def batch(self, indices: np.ndarray, drawn: np.ndarray | None = None) -> Batch:
        """The windows of these images [B] at their rows of `draw`, or in the middle."""
        images = self.images[indices]
        if drawn is None or self.augment == "shift":
            middle = np.broadcast_to(self._room // 2, (len(indices), 2))
            images = pixels(cut(images, middle if drawn is None else drawn, *self.size))
        else:
            light = drawn["brightness"], drawn["contrast"]
            if self.augment == "lighting":
                images = lighting.light(pixels(images), *light, 1.0)
            images = pixels(cut(images, drawn["corner"], *self.size))
            if self.augment == "efficient":
                images = lighting.light(images, *light, self._deviations)
        return Batch(images, self.labels[indices], np.ones(len(images), np.float32))
