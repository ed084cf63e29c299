"""Pictures from anywhere, as the images that a network was trained on.

    digit    MNIST's: ink on black, its box fitted into 20x20, its centre of mass in the middle
    digits   MultiMNIST's: ink on black, the box of two digits fitted into 24x24, in the middle
    garment  Fashion-MNIST's: a thing on black, its box fitted into the image, in the middle
    whole    any other: the middle of the picture, in the image's size and channels; or, where the
             network sees windows of its training images, the middle window of it in their size

Axes: H W C an image.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from parity.data.formats.pictures import PictureError, read

if TYPE_CHECKING:
    from PIL.Image import Image

FITS = ("digit", "digits", "garment", "whole")
SIDES = {"digit": 20, "digits": 24}  # of the squares that they are fitted into
# Of a pixel: the mass of a symmetrical digit is centred between two of them, and which one it is
# moved to must not be decided by rounding errors, which differ from program to program.
TIE = 1e-4
ENOUGH = 1024  # pixels a side; more are averaged away first
FAINTEST = 0.1  # the contrast, from 0 to 1, below which there is nothing in a picture
EDGE = {
    "digit": 0.15,
    "digits": 0.15,
    "garment": 0.02,
}  # the share of the strongest ink where its box ends


def prepare(
    path: str | Path,
    image: tuple[int, int, int],
    fit: str,
    frame: tuple[int, int] | None = None,
) -> np.ndarray:
    """A picture as an image [H, W, C] of a network, float32 in [0, 1].

    Args:
        path: The picture.
        image: Height, width, channels that the network takes.
        fit: One of `FITS`; all but "whole" may be dark on light or light on dark.
        frame: Of "whole": height and width it is brought to, of which the middle is the image.

    Raises:
        PictureError: Which names the file.
    """
    height, width, channels = image
    if fit not in FITS:
        raise PictureError(f"fit {fit!r} is unknown; expected one of {', '.join(FITS)}")
    if channels not in ((1, 3) if fit == "whole" else (1,)):
        raise PictureError(
            f"{path}: the network takes images of {channels} channels, for which --fit {fit} "
            "makes none; whole makes 1 (grey) and 3 (colour), the others make 1"
        )
    side = SIDES.get(fit)
    if side is not None and min(height, width) < side:
        raise PictureError(
            f"{path}: the network takes images of {height}x{width}, "
            f"--fit {fit} needs {side}x{side}; use --fit whole"
        )
    picture = read(path)
    # never below what the network takes: a picture of that size is the one it was trained on
    picture.thumbnail((max(ENOUGH, width), max(ENOUGH, height)))
    if fit == "whole":
        return _whole(picture, image, frame or (height, width))
    box = crop(ink(np.asarray(picture.convert("L"), np.float32) / 255), EDGE[fit])
    if box is None:
        raise PictureError(
            f"{path}: empty, nothing in it stands out from its border (by a tenth of the way from "
            "black to white); what is transparent counts as white"
        )
    small = resized(box, side or height, side or width)
    down, right = (height + 1 - small.shape[0]) // 2, (width + 1 - small.shape[1]) // 2
    if side is not None:
        small /= small.max()  # thin lines are faint when they are small, MNIST's are not
    if fit == "digit":
        middle = np.array([height // 2, width // 2])
        down, right = np.round(middle - centre_of_mass(small) - TIE)
    return _placed(small, int(down), int(right), height, width)[..., None]


def ink(grey_HW: np.ndarray) -> np.ndarray:
    """How far each pixel [H, W] stands out from the paper, the border's median.

    Darker or lighter than it, whichever there is more of; the other counts as paper.
    """
    border = np.concatenate([grey_HW[0], grey_HW[-1], grey_HW[:, 0], grey_HW[:, -1]])
    darker = np.median(border) - grey_HW
    dark, light = np.clip(darker, 0, None), np.clip(-darker, 0, None)
    return dark if dark.sum() > light.sum() else light


def crop(ink_HW: np.ndarray, edge: float) -> np.ndarray | None:
    """The box of all ink above `edge` times the strongest; None where there is none."""
    strongest = ink_HW.max()
    if strongest < FAINTEST:
        return None
    there = ink_HW > edge * strongest
    rows, columns = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
    return ink_HW[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def resized(ink_HW: np.ndarray, height: int, width: int) -> np.ndarray:
    """The same, antialiased, scaled by one factor to just fit into this size."""
    from PIL import Image

    scale = min(height / ink_HW.shape[0], width / ink_HW.shape[1])
    h, w = (max(1, round(side * scale)) for side in ink_HW.shape)
    return np.array(Image.fromarray(ink_HW).resize((w, h), Image.Resampling.BILINEAR))


def centre_of_mass(ink_HW: np.ndarray) -> np.ndarray:
    """Row and column, pixels counted from 0."""
    places = np.indices(ink_HW.shape).reshape(2, -1)
    return places @ ink_HW.reshape(-1) / ink_HW.sum()


def _placed(small: np.ndarray, down: int, right: int, height: int, width: int) -> np.ndarray:
    """On black, that far down and right, or as near to it as keeps all of it inside."""
    h, w = small.shape
    down, right = min(max(down, 0), height - h), min(max(right, 0), width - w)
    out = np.zeros((height, width), np.float32)
    out[down : down + h, right : right + w] = small.clip(0, 1)
    return out


def _whole(picture: "Image", image: tuple[int, int, int], frame: tuple[int, int]) -> np.ndarray:
    from PIL import Image, ImageOps

    height, width, channels = image
    fitted = ImageOps.fit(picture, (frame[1], frame[0]), Image.Resampling.BILINEAR)
    grey = np.asarray(fitted.convert("L" if channels == 1 else "RGB"), np.float32) / 255
    down, right = (frame[0] - height) // 2, (frame[1] - width) // 2
    return grey.reshape(*frame, channels)[down : down + height, right : right + width]
