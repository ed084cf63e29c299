"""Cuts windows out of a batch, each image's at its own place, without a loop.

Axes: B images of a batch, C channels.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def cut(images: np.ndarray, corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """Windows [B, height, width, C] of images, by their (top, left) in [B, 2]."""
    size = (height, width, images.shape[3])
    windows = sliding_window_view(images, size, (1, 2, 3))  # type: ignore[call-overload]
    return windows[np.arange(len(images)), corners[:, 0], corners[:, 1], 0]


def translate(images: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Each image moved by its row (down, right) of `offsets` [B, 2], zeros moving in."""
    edge = int(np.abs(offsets).max(initial=0))
    padded = np.pad(images, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    return cut(padded, edge - offsets, *images.shape[1:3])
