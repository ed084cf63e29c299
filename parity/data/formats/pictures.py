"""Pictures from anywhere, read as RGB of 8 bits; no file is trusted.

A picture's size is looked at before it is decoded, and a decoder is given bytes, never a file.
"""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from parity.spec import TwincapsError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # others of Pillow's run programs
LARGEST = 64_000_000  # pixels; more are not decoded
ENOUGH = 1024  # pixels a side; more are averaged away first

SIXTEEN = ("I", "I;16", "I;16B", "I;16L", "I;16N")
EIGHT = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")


class PictureError(TwincapsError):
    """A picture that cannot be read, or that no image can be made of."""


def content(path: str | Path) -> io.BytesIO:
    """The bytes of a file for a decoder: one that asks for more than there are, because a header
    says so, gets what there is, where an open file would make room for all of it first.
    """
    return io.BytesIO(Path(path).read_bytes())


def read(path: str | Path) -> "Image":
    """A picture as RGB of 8 bits, upright, on white where it is transparent, and no larger than
    `ENOUGH`; its size is looked at before anything is decoded. Raises PictureError.
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
                picture = ImageOps.exif_transpose(picture)
    except Image.DecompressionBombError as error:
        raise PictureError(
            f"{path}: too large to be decoded ({error}); the limit is {LARGEST:,} pixels, scale it "
            "down first"
        ) from error
    except Exception as error:  # a broken file may raise anything
        raise PictureError(
            f"{path}: not a whole picture ({error}); expected one of {', '.join(FORMATS)}"
        ) from error
    if picture.mode in SIXTEEN:
        grey = np.clip(np.asarray(picture).astype(np.int64) // 257, 0, 255)
        picture = Image.fromarray(grey.astype(np.uint8))
    elif picture.mode not in EIGHT:
        raise PictureError(
            f"{path}: its pixels are {picture.mode}; expected grey or colour of 8 or 16 bits"
        )
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("RGB")
    picture.thumbnail((ENOUGH, ENOUGH))
    return picture
