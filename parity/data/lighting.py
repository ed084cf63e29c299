"""Augmentations of toys: random brightness, then random contrast.

Efficient-CapsNet's authors ("efficient") add to pixels that are standardised, -2 to 2; here they
are not yet, so the same is added in units of the standard deviation of a channel over the training
images. The authors of EM routing ("lighting") add up to 63 to pixels of 0 to 255. Values leave
[0, 1] and are not clipped.

Sources: the authors' code of Mazzia, Salvetti, Chiaberge, Scientific Reports 11:14634 (2021), and
of Hinton, Sabour, Frosst, ICLR 2018.

Axes: N images, B images of a batch, H W C an image.
"""

import numpy as np

# By the augmentation's name: the largest brightness, the least and the largest contrast.
RANGES = {"efficient": (2.0, (0.5, 1.5)), "lighting": (63 / 255, (0.2, 1.8))}
BLOCK = 1000  # images whose sums are taken at a time: 66 MB of smallNORB's


def draw(random: np.random.Generator, count: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Brightness [N] and contrast [N] of `count` images, both uniform in the ranges of a kind."""
    brightness, contrast = RANGES[kind]
    return random.uniform(-brightness, brightness, count), random.uniform(*contrast, count)


def light(
    images_BHWC: np.ndarray,
    brightness_B: np.ndarray,
    contrast_B: np.ndarray,
    unit_C: np.ndarray | float,
) -> np.ndarray:
    """Float32 images made brighter by so many units, and then of more or less contrast.

    Contrast is about the mean of each channel of an image.
    """
    added = (brightness_B[:, None] * unit_C)[:, None, None]
    # In float64 the sum of an image's pixels is exact, so it has no order.
    means = images_BHWC.mean((1, 2), np.float64, keepdims=True)
    factor = contrast_B[:, None, None, None]
    return ((images_BHWC - means) * factor + (means + added)).astype(np.float32)


def deviations(images: np.ndarray) -> np.ndarray:
    """The standard deviation of each channel [C] of images [N, H, W, C], in units of white."""
    white = 255 if images.dtype == np.uint8 else 1
    total = squares = np.zeros(images.shape[3])
    for first in range(0, len(images), BLOCK):
        block = images[first : first + BLOCK] / np.float64(white)
        total, squares = total + block.sum((0, 1, 2)), squares + (block * block).sum((0, 1, 2))
    count = images[..., 0].size
    return np.sqrt(squares / count - (total / count) ** 2)
