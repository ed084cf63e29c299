"""The one reader of pictures, for training and for `predict`; no file is trusted.

A picture's size is looked at before it is decoded, and a decoder is given bytes, never a file.

    orientation (EXIF)             turned upright, as a viewer shows it
    transparency                   on white, from an alpha channel, a palette or a marked colour
    1 bit, 8 or 16 bits of grey    grey
    a palette, even of greys       colour
    RGB, CMYK, YCbCr               colour
    an animation                   its first frame
    any other                      refused
"""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from parity.data.splits import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # others of Pillow's run programs
LARGEST = 64_000_000  # pixels; more are not decoded

GREY = ("1", "L", "LA", "La")
SIXTEEN = ("I", "I;16", "I;16B", "I;16L", "I;16N")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")


class PictureError(DataError):
    """A picture that cannot be read, or that no image can be made of."""


def content(path: str | Path) -> io.BytesIO:
    """The bytes of a file, for a decoder.

    A decoder that asks for more than there are, because a header says so, gets what there is; an
    open file would make room for all of it first.
    """
    return io.BytesIO(Path(path).read_bytes())


def read(path: str | Path) -> "Image":
    """A picture of 8 bits as a viewer shows it: mode L if it is grey, else RGB.

    Raises PictureError, which names the file.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise PictureError(
            f"{path}: reading it needs Pillow; pip install 'twincaps[data]'"
        ) from error
    if not Path(path).is_file():
        raise PictureError(f"{path}: no such file; expected a picture, PNG for example")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a damaged file means is said below
            with Image.open(content(path), formats=FORMATS) as picture:
                width, height = picture.size
                if width * height > LARGEST:
                    raise Image.DecompressionBombError(f"{width}x{height}")
                picture.load()
                return _on_white(ImageOps.exif_transpose(picture), str(path))
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise PictureError(
            f"{path}: too large to be decoded ({error}); the limit is {LARGEST:,} pixels, scale it "
            "down first"
        ) from error
    except Exception as error:  # a broken file may raise anything
        raise PictureError(
            f"{path}: not a whole picture ({error}); expected one of {', '.join(FORMATS)}"
        ) from error


def _on_white(picture: "Image", what: str) -> "Image":
    from PIL import Image

    marked = picture.info.get("transparency")
    if picture.mode in SIXTEEN:
        return Image.fromarray(_of_16_bits(np.asarray(picture), marked, what))
    if picture.mode not in GREY + COLOUR:
        raise PictureError(
            f"{what}: its pixels are {picture.mode}; expected grey or colour of 8 or 16 bits"
        )
    if isinstance(marked, tuple) and max(marked) > 255:  # of colours that were 16 bits deep
        raise PictureError(
            f"{what}: its transparent colour {marked} has more than 8 bits, its pixels have not; "
            "save it with 8 bits or with an alpha channel"
        )
    mode = "L" if picture.mode in GREY else "RGB"
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert(mode)


def _of_16_bits(grey_HW: np.ndarray, transparent: int | None, what: str) -> np.ndarray:
    """uint8 [H, W]; PictureError where there are other numbers than those of 16 bits."""
    low, high = int(grey_HW.min()), int(grey_HW.max())
    if low < 0 or high > 65535:
        raise PictureError(
            f"{what}: its pixels go from {low} to {high}; expected grey of 8 or 16 bits, "
            "0 to 65535: scale them first"
        )
    if transparent is not None:
        grey_HW = np.where(grey_HW == transparent, 65535, grey_HW)
    return (grey_HW // 257).astype(np.uint8)
