"""Pictures: those of a folder that is a data set, and those that are asked about."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fuzz.reader import Reader
from parity.data.sets import folder
from parity.predict.fit import prepare

NETWORK = (28, 28, 1)


def drawn(*kinds: tuple[str, str]) -> Callable[[Path], list[bytes]]:
    """The same strokes in each (format, mode)."""
    rows, columns = np.mgrid[:31, :23]
    grey = np.where(np.hypot(rows - 15, columns - 11) < 7, 255, 3 * columns).astype(np.uint8)

    def make(place: Path) -> list[bytes]:
        files = []
        for kind, mode in kinds:
            file = io.BytesIO()
            Image.fromarray(grey).convert(mode).save(file, kind)
            files.append(file.getvalue())
        return files

    return make


def of_folder(result: Any, content: bytes, whole: list[bytes]) -> bool:
    return result.dtype == np.uint8 and result.ndim == 4 and result.shape[-1] in (1, 3)


def of_prepare(result: Any, content: bytes, whole: list[bytes]) -> bool:
    return result.shape == NETWORK and bool(((result >= 0) & (result <= 1)).all())


PNG = ("PNG", "L"), ("PNG", "RGB"), ("PNG", "P"), ("PNG", "1"), ("PNG", "RGBA"), ("PNG", "LA")
OTHERS = ("JPEG", "L"), ("BMP", "RGB"), ("GIF", "P"), ("WEBP", "RGB"), ("TIFF", "L"), ("PPM", "RGB")
MEMORY = 1200  # MiB: of the largest picture that is decoded, several times over


def asked(file: Path) -> Any:
    return prepare(file, NETWORK, "digit")


ROWS = (
    Reader(
        "PNG of a folder",
        "a.png",
        drawn(*PNG),
        lambda file: folder.read([file]),
        of_folder,
        3000,
        MEMORY,
    ),
    Reader(
        "other pictures of a folder",
        "a.png",
        drawn(*OTHERS),
        lambda file: folder.read([file]),
        of_folder,
        1500,
        MEMORY,
    ),
    Reader("PNG to predict", "a.png", drawn(*PNG), asked, of_prepare, 3000, MEMORY),
    Reader("other pictures to predict", "a.png", drawn(*OTHERS), asked, of_prepare, 1500, MEMORY),
)
