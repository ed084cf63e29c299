"""A folder of your own pictures: one subfolder a class, named as the class.

    DIR/train/cat/*.png DIR/train/dog/*.png      with DIR/test/cat/*.png DIR/test/dog/*.png
    DIR/cat/*.png DIR/dog/*.png                  every fifth of a class, by name, is for testing

Classes are numbered in the order of their names. All pictures have one size; they are grey where
every one is, in colour else.
"""

from pathlib import Path
from typing import Any

import numpy as np

from parity.data.formats.pictures import FORMATS, LARGEST, content
from parity.data.registry import Entry
from parity.data.splits import DataError, Dataset, NotFoundError, Split

ENDS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
GREY, COLOUR = ("1", "L"), ("P", "RGB")
EVERY = 5

Labelled = list[tuple[Path, int]]


def load(data_dir: Path | None) -> Dataset:
    """The pictures below `data_dir`; raises DataError naming the file or folder that is amiss."""
    if data_dir is None or not data_dir.is_dir():
        raise NotFoundError(
            f"folder: {data_dir} is no folder; name the one that holds a subfolder for each class "
            "with --data-dir or data_dir="
        )
    names = classes(data_dir)
    if _parted(data_dir):
        if names != (tested := _below(data_dir / "test")):
            raise DataError(f"{data_dir}: classes are {names} in train and {tested} in test")
        train, test = (_labelled(data_dir / which, names) for which in ("train", "test"))
    else:
        train, test = [], []
        for which in (_labelled(data_dir, [name], label) for label, name in enumerate(names)):
            train += [each for n, each in enumerate(which, 1) if n % EVERY]
            test += which[EVERY - 1 :: EVERY]
    if not train or not test:
        raise DataError(
            f"{data_dir}: {len(train)} pictures to train and {len(test)} to test in classes "
            f"{names}; expected some of both: {EVERY} or more a class, or folders train and test"
        )
    images = read([path for path, _ in train + test])
    labels = np.array([label for _, label in train + test])
    count = len(train)
    splits = Split(images[:count], labels[:count]), Split(images[count:], labels[count:])
    return Dataset("folder", *splits, len(names), tuple(names), data_dir)


def classes(folder: Path) -> list[str]:
    """The names of the classes in such a folder, [] where there is none."""
    if not folder.is_dir():
        return []
    return _below(folder / "train" if _parted(folder) else folder)


def _parted(folder: Path) -> bool:
    return (folder / "train").is_dir() and (folder / "test").is_dir()


def _below(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _labelled(folder: Path, names: list[str], first: int = 0) -> Labelled:
    return [
        (path, label)
        for label, name in enumerate(names, first)
        for path in _pictures(folder / name)
    ]


def _pictures(folder: Path) -> list[Path]:
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in ENDS and not path.name.startswith(".")
    ]
    if not found:
        raise DataError(
            f"{folder}: this class has no picture ({' '.join(sorted(ENDS))}); put some there, or "
            "delete the folder if it is no class"
        )
    return found


def read(paths: list[Path]) -> np.ndarray:
    """The pictures as uint8 [N, H, W, C]."""
    pictures = [_open(path) for path in paths]
    mode = "L" if all(picture.mode in GREY for picture in pictures) else "RGB"
    for path, picture in zip(paths, pictures, strict=True):
        if picture.size != pictures[0].size:
            (width, height), (w, h) = pictures[0].size, picture.size
            raise DataError(
                f"{path} is {w}x{h}, {paths[0]} is {width}x{height} (width x height); bring all "
                "pictures to one size"
            )
    images = np.stack([np.asarray(picture.convert(mode)) for picture in pictures])
    return images[..., None] if mode == "L" else images


def _open(path: Path) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(f"{path}: reading it needs Pillow; pip install twincaps[data]") from error
    try:
        with Image.open(content(path), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > LARGEST:
                raise DataError(
                    f"{path}: {width}x{height} is too large to be decoded; the limit is "
                    f"{LARGEST:,} pixels, scale it down first"
                )
            picture.load()
    except DataError:
        raise
    except Exception as error:  # a broken file may raise anything
        raise DataError(f"{path}: not a whole picture ({error})") from error
    if picture.mode not in GREY + COLOUR:
        raise DataError(
            f"{path}: its pixels are {picture.mode}; expected 8-bit grey or RGB without "
            "transparency; convert it first"
        )
    return picture


DATASET = Entry(
    name="folder",
    title="your own pictures, a subfolder a class",
    shape=None,
    classes=None,
    licence="yours",
    source="the folder that --data-dir or data_dir= names",
    load=load,
    classes_in=classes,
)
