"""A folder of your own pictures: one subfolder a class, named as the class.

    DIR/train/cat/*.png DIR/train/dog/*.png      with DIR/test/cat/*.png DIR/test/dog/*.png
    DIR/cat/*.png DIR/dog/*.png                  every fifth of a class, by name, is for testing

Other names of train and test, and what is passed over: `formats/folders.py`. A class of two to four
pictures gives its last one to testing. Classes are numbered in the order of their names.

Pictures are read as `predict` reads them (`formats/pictures.py`): as a viewer shows them. All have
one size, after they are turned upright; they are grey where every one is, in colour else.
"""

import warnings
from itertools import chain
from pathlib import Path

import numpy as np

from parity.data.formats import pictures
from parity.data.formats.folders import Labelled, arranged, labelled
from parity.data.registry import Entry, Found
from parity.data.splits import DataError, Dataset, DataWarning, NotFoundError, Split

EVERY = 5


def load(data_dir: Path | None) -> Dataset:
    """The pictures below `data_dir`; raises DataError naming what is invalid."""
    names, train, test = _divided(data_dir)
    images = read([path for path, _ in train + test])
    labels = np.array([label for _, label in train + test])
    count = len(train)
    splits = Split(images[:count], labels[:count]), Split(images[count:], labels[count:])
    return Dataset("folder", *splits, len(names), tuple(names), data_dir)


def look(data_dir: Path | None) -> Found:
    """How many pictures `load` would read, and of how many classes; none is opened."""
    names, train, test = _divided(data_dir)
    return Found(data_dir, len(train), len(test), len(names))


def classes(folder: Path) -> list[str]:
    """The names of the classes in such a folder, [] where there are none."""
    try:
        return arranged(folder).names if folder.is_dir() else []
    except DataError:
        return []


def _divided(folder: Path | None) -> tuple[list[str], Labelled, Labelled]:
    """Class names, and the pictures to train and to test; warns of unused ones."""
    if folder is None or not folder.is_dir():
        raise NotFoundError(
            f"folder: {folder} is no folder; name the one that holds a subfolder for each class "
            "with --data-dir or data_dir="
        )
    arrangement = arranged(folder)
    notes = arrangement.notes
    train = labelled(arrangement.train, notes)
    if arrangement.test is not None:
        test = labelled(arrangement.test, notes)
    else:
        test = [held_out(pictures) for pictures in train]
        tested = set(chain(*test))
        train = [[picture for picture in pictures if picture not in tested] for pictures in train]
    for note in notes:
        warnings.warn(note, DataWarning, stacklevel=3)
    if not sum(map(len, test)):
        raise DataError(
            f"{folder}: {sum(map(len, train))} pictures to train and 0 to test in classes "
            f"{arrangement.names}; expected some of both: two or more a class, or folders train "
            "and test"
        )
    return arrangement.names, [*chain(*train)], [*chain(*test)]


def held_out(pictures: Labelled) -> Labelled:
    """The pictures of a class to test on: every fifth, or the last of two to four."""
    return pictures[EVERY - 1 :: EVERY] if len(pictures) >= EVERY else pictures[1:][-1:]


def read(paths: list[Path]) -> np.ndarray:
    """The pictures as uint8 [N, H, W, C]; raises PictureError, a DataError."""
    originals = [pictures.read(path) for path in paths]
    mode = "L" if all(picture.mode == "L" for picture in originals) else "RGB"
    for path, picture in zip(paths, originals, strict=True):
        if picture.size != originals[0].size:
            (width, height), (w, h) = originals[0].size, picture.size
            raise DataError(
                f"{path} is {w}x{h}, {paths[0]} is {width}x{height} (width x height, as a viewer "
                "shows them); bring all pictures to one size"
            )
    images = np.stack([np.asarray(picture.convert(mode)) for picture in originals])
    return images[..., None] if mode == "L" else images


DATASET = Entry(
    name="folder",
    title="your own pictures, a subfolder a class",
    shape=None,
    classes=None,
    licence="yours",
    source="the folder that --data-dir or data_dir= names",
    load=load,
    look=look,
    classes_in=classes,
)
