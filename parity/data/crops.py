"""Splits whose training images are random windows of what is stored."""

from dataclasses import dataclass

import numpy as np

from parity.data.splits import Batch, Split, pixels
from parity.data.windows import cut


@dataclass(frozen=True, eq=False)
class Cropped(Split):
    """Windows of `size`, height and width: random in training, else the middle.

    The window's place is the augmentation: a run's `shift` does not come on top of it.
    """

    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels of a window."""
        return (*self.size, self.images.shape[3])

    @property
    def _room(self) -> np.ndarray:
        return np.array(self.images.shape[1:3]) - self.size

    def draw(self, random: np.random.Generator, shift: int) -> np.ndarray:
        """The window's (top, left) at each place of an epoch, [N, 2], uniform."""
        return random.integers(0, self._room, (len(self), 2), endpoint=True)

    def batch(self, indices: np.ndarray, drawn: np.ndarray | None = None) -> Batch:
        """The windows of these images [B] at their rows of `draw`, or in the middle."""
        middle = np.broadcast_to(self._room // 2, (len(indices), 2))
        images = cut(self.images[indices], middle if drawn is None else drawn, *self.size)
        return Batch(pixels(images), self.labels[indices], np.ones(len(images), np.float32))
