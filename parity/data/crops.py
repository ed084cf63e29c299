"""Splits whose training images are random windows of what is stored."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from parity.data import lighting
from parity.data.splits import Batch, Split, pixels
from parity.data.windows import cut

# A window's (top, left), and how it is lit, of the augmentation "efficient".
LIT = np.dtype([("corner", np.int64, 2), ("brightness", float), ("contrast", float)])


@dataclass(frozen=True, eq=False, repr=False)
class Cropped(Split):
    """Windows of `size`, height and width: random in training, else the middle.

    The window's place is the augmentation: a run's `shift` does not come on top of it. With
    `augment` "efficient", brightness and contrast do.
    """

    size: tuple[int, int]

    augmentations: ClassVar[tuple[str, ...]] = ("shift", "efficient")

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
        rows["brightness"], rows["contrast"] = lighting.draw(random, len(self))
        return rows

    def batch(self, indices: np.ndarray, drawn: np.ndarray | None = None) -> Batch:
        """The windows of these images [B] at their rows of `draw`, or in the middle."""
        lit = drawn is not None and self.augment == "efficient"
        if drawn is None:
            corners = np.broadcast_to(self._room // 2, (len(indices), 2))
        else:
            corners = drawn["corner"] if lit else drawn
        images = pixels(cut(self.images[indices], corners, *self.size))
        if drawn is not None and lit:
            light = drawn["brightness"], drawn["contrast"]
            images = lighting.light(images, *light, self._deviations)
        return Batch(images, self.labels[indices], np.ones(len(images), np.float32))
