"""Efficient-CapsNet's augmentation of digits: rotate, shift, squeeze, and erase a patch.

`draw` makes what is random about the images of an epoch, a row an image; `distort` applies any of
those rows to a whole batch. Each pixel is computed from its own image alone, in a fixed order of
sums, so an image gets the same bytes in a batch of any size. Values overshoot [0, 1] a little, by
the negative lobes of the Lanczos filter, and are not clipped: neither do the authors.

Source: Mazzia, Salvetti, Chiaberge, Efficient-CapsNet, Scientific Reports 11:14634 (2021), by the
authors' code; sizes and places are theirs for 28x28, and scale with other sizes.

Axes: N images of an epoch, B images of a batch, H W C an image, P its pixels, T taps of a filter.
"""

import functools

import numpy as np

from parity.data.windows import translate

SMALLEST = 10  # height and width of an image: a patch lies 4 pixels from the edge, or more
DEGREES, DEVIATION, PATCH, EDGE = 30, 0.33, 4, 4
LOBES = 3  # of the Lanczos filter, on either side
# OpenCV's places of a rotation: rounded to 1/1024 of a pixel, then cut to 1/32.
PLACES, FRACTIONS = 1024, 32

ROWS = np.dtype(
    [
        ("angle", np.int8),  # degrees, counter-clockwise
        ("down", np.float64),  # share of the room there is, upwards where negative
        ("right", np.float64),  # the same, to the left where negative
        ("narrower", np.int8),  # pixels
        ("offset", np.int8),  # pixels to the right of the middle
        ("patch", np.int16, 2),  # its top and left
    ]
)


def draw(random: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    """What is random about `count` images, as `ROWS` [N]."""
    rows = np.empty(count, ROWS)

    def amounts() -> np.ndarray:
        return np.clip(random.normal(0, DEVIATION, count), -0.9999, 0.9999)

    # An angle towards 0, in half of the images.
    rows["angle"] = np.trunc(DEGREES * amounts()) * random.integers(0, 2, count)
    for axis in ("down", "right"):
        rows[axis] = amounts()  # its sign is the coin that says which way
    rows["narrower"] = np.floor(np.abs(amounts()) * (width // 4) + 1)
    rows["offset"] = np.floor(np.abs(amounts()) * 2)
    last = np.array([height, width]) - PATCH - 2
    rows["patch"] = random.integers(EDGE, last, (count, 2), endpoint=True)
    return rows


def distort(images_BHWC: np.ndarray, rows_B: np.ndarray) -> np.ndarray:
    """Float32 images by their rows of `draw`: a new float32 array of the same shape."""
    images = rotate(images_BHWC, rows_B["angle"])
    images = shift(images, rows_B["down"], rows_B["right"])
    images = squeeze(images, rows_B["narrower"], rows_B["offset"])
    return erase(images, rows_B["patch"])


def rotate(images_BHWC: np.ndarray, degrees_B: np.ndarray) -> np.ndarray:
    """Images turned counter-clockwise about (H / 2, W / 2), bilinear, with zeros outside.

    As OpenCV's warpAffine does, between pixels in steps of a 32nd.

    Args:
        images_BHWC: Float32 images.
        degrees_B: Whole degrees, from -30 to 30.
    """
    turned = np.flatnonzero(degrees_B)
    height, width, channels = images_BHWC.shape[1:]
    places, weights = _turns(height, width)
    angles = degrees_B[turned] + DEGREES
    # One more pixel, a zero, that stands for all outside.
    flat = np.zeros((len(turned), height * width + 1, channels), np.float32)
    flat[:, :-1] = images_BHWC[turned].reshape(len(turned), height * width, channels)
    made = images_BHWC.copy()
    made[turned] = _gather(flat, places[angles], weights[angles]).reshape(-1, *made.shape[1:])
    return made


def _gather(values_BPC: np.ndarray, places_BTP: np.ndarray, weights_BTP: np.ndarray) -> np.ndarray:
    """Sums over T of values at `places`, times `weights`; tap by tap, in order."""
    batch, pixels, channels = values_BPC.shape
    values = values_BPC.reshape(batch * pixels, channels)
    places = places_BTP + pixels * np.arange(batch)[:, None, None]
    total = np.zeros((*places[:, 0].shape, channels), np.float32)
    for tap in range(places.shape[1]):
        total += weights_BTP[:, tap, :, None] * values.take(places[:, tap], 0)
    return total


@functools.lru_cache(maxsize=4)
def _turns(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each angle from -30 on, the four neighbours of each pixel's source, and their weights."""
    turn = np.deg2rad(np.arange(-DEGREES, DEGREES + 1))[:, None, None]
    cos, sin = np.cos(turn), np.sin(turn)
    y, x = np.arange(height)[:, None], np.arange(width)[None]
    middle_y, middle_x = height / 2, width / 2
    # What a column adds and what a row adds are rounded apart, as OpenCV does.
    from_x = np.rint(cos * x * PLACES), np.rint(sin * x * PLACES)
    from_y = (
        np.rint((-sin * y + middle_x - cos * middle_x + sin * middle_y) * PLACES),
        np.rint((cos * y + middle_y - sin * middle_x - cos * middle_y) * PLACES),
    )
    step = PLACES // FRACTIONS
    columns, rows = (
        (a + b + step // 2).astype(np.int64) // step for a, b in zip(from_x, from_y, strict=True)
    )
    places, weights = [], []
    for down in (0, 1):
        for right in (0, 1):
            row, column = rows // FRACTIONS + down, columns // FRACTIONS + right
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            places.append(np.where(inside, row * width + column, height * width))
            share_y, share_x = (each % FRACTIONS / FRACTIONS for each in (rows, columns))
            weights.append((share_y if down else 1 - share_y) * (share_x if right else 1 - share_x))
    shape = (len(turn), 4, height * width)
    return np.stack(places, 1).reshape(shape), np.stack(weights, 1, dtype=np.float32).reshape(shape)


def shift(images_BHWC: np.ndarray, down_B: np.ndarray, right_B: np.ndarray) -> np.ndarray:
    """Images moved by a share, from -1 to 1, of the empty rows or columns on that side."""
    rows, columns = (np.asarray(images_BHWC.any(axes)) for axes in ((2, 3), (1, 3)))
    offsets = _offsets(rows, down_B), _offsets(columns, right_B)
    return translate(images_BHWC, np.stack(offsets, 1))


def _offsets(ink_BL: np.ndarray, share_B: np.ndarray) -> np.ndarray:
    """Pixels to move along L, where some of it has ink: towards the end if positive."""
    before, after = ink_BL.argmax(1), ink_BL[:, ::-1].argmax(1)
    # A share below 1 never moves ink out: floor(share * (1 + room)) is at most room.
    return np.floor(np.where(share_B < 0, share_B * before, share_B * (1 + after))).astype(np.int64)


def squeeze(images_BHWC: np.ndarray, narrower_B: np.ndarray, offset_B: np.ndarray) -> np.ndarray:
    """Images made narrower by Lanczos resampling, with zeros beside them; heights stay.

    Args:
        images_BHWC: Float32 images.
        narrower_B: By how many columns, from 1 to a quarter of them.
        offset_B: Columns to the right of the middle, 0 or 1.
    """
    batch, height, width, channels = images_BHWC.shape
    places, weights = _lanczos(width)
    columns = images_BHWC.swapaxes(1, 2).reshape(batch, width, height * channels)
    kinds = narrower_B - 1, offset_B
    made = _gather(columns, places[kinds], weights[kinds])
    return made.reshape(batch, width, height, channels).swapaxes(1, 2)


@functools.lru_cache(maxsize=4)
def _lanczos(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each narrower width and offset, the T columns that make each column, and their weights."""
    most = width // 4
    taps = 2 * LOBES * width // (width - most) + 2
    places = np.zeros((most, 2, taps, width), np.int64)
    weights = np.zeros((most, 2, taps, width), np.float32)
    for narrower in range(1, most + 1):
        scale = width / (width - narrower)
        centres = (np.arange(width - narrower) + 0.5) * scale  # of the new pixels, on the old ones
        first = np.ceil(centres - LOBES * scale - 0.5).astype(int)
        columns = first + np.arange(taps)[:, None]
        x = (columns + 0.5 - centres) / scale
        inside = (np.abs(x) < LOBES) & (columns >= 0) & (columns < width)
        filters = np.where(inside, np.sinc(x) * np.sinc(x / LOBES), 0)
        filters /= filters.sum(0)  # also at the edges, where some of the filter is cut off
        for offset in (0, 1):
            left = narrower // 2 + offset
            place = slice(left, left + width - narrower)
            places[narrower - 1, offset, :, place] = np.where(inside, columns, 0)
            weights[narrower - 1, offset, :, place] = filters
    return places, weights


def erase(images_BHWC: np.ndarray, patch_B2: np.ndarray) -> np.ndarray:
    """Images whose 4x4 patch at (top, left) is zero."""
    made = images_BHWC.copy()
    side = np.arange(PATCH)
    rows, columns = patch_B2[:, :1] + side, patch_B2[:, 1:] + side
    made[np.arange(len(made))[:, None, None], rows[:, :, None], columns[:, None, :]] = 0
    return made
