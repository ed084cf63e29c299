"""DeepCaps' augmentation: a small turn, shift and zoom of an image, and its mirror image.

`draw` makes what is random about the images of an epoch, a row an image; `warp` applies any of
those rows to a batch. The authors take Keras' ImageDataGenerator: turns of up to 0.1 degrees,
shifts of up to a tenth of the image, zooms of either axis by up to a tenth, and every other image
mirrored, digits too. A pixel is interpolated between four; beyond the edge all are as at the edge.

Source: Rajasegaran et al., DeepCaps, CVPR 2019, by its authors' code.

Axes: N images of an epoch, B images of a batch, H W C an image.
"""

import numpy as np

DEGREES, SHIFT, ZOOM = 0.1, 0.1, 0.1

ROWS = np.dtype(
    [
        ("degrees", np.float64),
        ("down", np.float64),  # shares of the height and the width
        ("right", np.float64),
        ("zoom", np.float64, 2),  # of rows and columns: above 1 the image is smaller
        ("mirrored", np.bool_),
    ]
)


def draw(random: np.random.Generator, count: int) -> np.ndarray:
    """What is random about `count` images, as `ROWS` [N]."""
    rows = np.empty(count, ROWS)
    rows["degrees"] = random.uniform(-DEGREES, DEGREES, count)
    for axis in ("down", "right"):
        rows[axis] = random.uniform(-SHIFT, SHIFT, count)
    rows["zoom"] = random.uniform(1 - ZOOM, 1 + ZOOM, (count, 2))
    rows["mirrored"] = random.integers(0, 2, count)
    return rows


def warp(images_BHWC: np.ndarray, rows_B: np.ndarray) -> np.ndarray:
    """Float32 images by their rows of `draw`: a new float32 array of the same shape."""
    height, width = images_BHWC.shape[1:3]
    place_B2HW = _sources(rows_B, height, width)
    lows, shares = [], []
    for axis, size in enumerate((height, width)):
        place = np.clip(place_B2HW[:, axis], 0, size - 1)
        lows.append(np.minimum(place.astype(np.int64), max(size - 2, 0)))
        shares.append((place - lows[-1]).astype(np.float32)[..., None])
    batch = np.arange(len(images_BHWC))[:, None, None]
    made = np.zeros_like(images_BHWC)
    for down in (0, 1):
        for right in (0, 1):
            row = np.minimum(lows[0] + down, height - 1)
            column = np.minimum(lows[1] + right, width - 1)
            weight = shares[0] if down else 1 - shares[0]
            weight = weight * (shares[1] if right else 1 - shares[1])
            made += weight * images_BHWC[batch, row, column]
    mirrored = rows_B["mirrored"][:, None, None, None]
    return np.where(mirrored, made[:, :, ::-1], made)


def _sources(rows_B: np.ndarray, height: int, width: int) -> np.ndarray:
    """Row and column in the old image of each new pixel, [B, 2, H, W].

    Keras' turn, after its shift, after its zoom, about half a pixel beyond the middle.
    """
    turn = np.deg2rad(rows_B["degrees"])[:, None, None]
    # Keras has its middle at size / 2 + 0.5, where pixels are counted from 0.
    middle_y, middle_x = height / 2 + 0.5, width / 2 + 0.5
    y = rows_B["zoom"][:, :1, None] * (np.arange(height)[:, None] - middle_y)
    x = rows_B["zoom"][:, 1:, None] * (np.arange(width) - middle_x)
    y = y + (rows_B["down"] * height)[:, None, None]
    x = x + (rows_B["right"] * width)[:, None, None]
    cos, sin = np.cos(turn), np.sin(turn)
    return np.stack([cos * y - sin * x + middle_y, sin * y + cos * x + middle_x], 1)
