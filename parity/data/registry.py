"""Finds the data sets: each is one file of `sets` with an `Entry` called DATASET."""

import importlib
import os
import pkgutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from parity.data import sets
from parity.data.splits import DataError, Dataset, DataWarning, alike
from parity.spec import TrainedOn


@dataclass(frozen=True)
class Found:
    """A copy of a data set: its place, and the numbers of its images.

    Those are images to train and to test; a place of None means that there are no files.

    Attributes:
        classes: Where the files decide how many.
    """

    place: Path | None
    train: int
    test: int
    classes: int | None = None


@dataclass(frozen=True)
class Entry:
    """What a data set's file declares of it.

    Attributes:
        name: What users call it: the file's name, with hyphens.
        title: One line on what it shows.
        shape: Height, width, channels of the images a network sees, None if the files decide.
        classes: How many, None if the files decide.
        licence: Of the data, as its owners state it.
        source: How to get it.
        load: Makes it, given the folder the user named, if any.
        look: Finds what `load` would make it of, by names and sizes alone, and raises as it does.
        class_names: Of the classes, where numbers are not their names.
        classes_in: The names of the classes in the folder the user named, where that decides.
        things: Classes that each image shows.
        fit: How `predict` makes an image of a picture (`predict/fit.py`).
        frame: Height and width of a picture of which a network sees the middle, if it does.
        stand_in: The data set to train on where a preset names this one and the user none.
        recipe: Fields of a training in which this data set departs from the preset's.
    """

    name: str
    title: str
    shape: tuple[int, int, int] | None
    classes: int | None
    licence: str
    source: str
    load: Callable[[Path | None], Dataset]
    look: Callable[[Path | None], Found] | None = None
    class_names: tuple[str, ...] = ()
    classes_in: Callable[[Path], Sequence[str]] | None = None
    things: int = 1
    fit: str = "whole"
    frame: tuple[int, int] | None = None
    stand_in: str | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)


def names() -> list[str]:
    """The known names, sorted."""
    modules = (module.name for module in pkgutil.iter_modules(sets.__path__))
    return sorted(declared.name for name in modules if (declared := _declared(_module(name))))


def entry(name: str) -> Entry:
    """What a data set's file declares; raises DataError with the known names."""
    known = {module.name for module in pkgutil.iter_modules(sets.__path__)}
    module = name.replace("-", "_")
    declared = _declared(_module(module)) if module in known else None
    if declared is None or declared.name != name:
        raise DataError(f"data set {name!r} is unknown; expected one of {', '.join(names())}")
    return declared


def load(name: str, data_dir: str | os.PathLike | None = None) -> Dataset:
    """A data set by name, its files looked for in `data_dir` first; raises DataError."""
    folder = None if data_dir is None else Path(os.path.expanduser(data_dir))
    declared = entry(name)
    dataset = declared.load(folder)
    return alike(
        dataset,
        class_names=dataset.class_names or declared.class_names,
        fit=declared.fit,
        frame=declared.frame,
        things=declared.things,
    )


def described(name: str, data_dir: str | os.PathLike | None = None) -> TrainedOn:
    """What a run that did not save it was trained on, by its data set's name.

    Args:
        name: The data set of the run; a name that is not in the registry is kept alone.
        data_dir: The run's data folder. Where a folder decides the names of the classes, they are
            read from it as it is today, with a DataWarning.

    Returns:
        What the data set's file declares; the fingerprints of its splits are unknown.
    """
    try:
        declared = entry(name)
    except DataError:  # somebody's own arrays, under a name of theirs
        return TrainedOn(dataset=name)
    names = declared.class_names
    if declared.classes_in is not None and data_dir is not None:
        names = tuple(declared.classes_in(Path(os.path.expanduser(data_dir))))
        warnings.warn(
            "this run was made before runs saved the names of their classes; they are read from "
            f"{data_dir} as it is now: {', '.join(names)}",
            DataWarning,
            stacklevel=2,
        )
    return TrainedOn(name, declared.fit, declared.frame, declared.things, names)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{sets.__name__}.{name}")


def _declared(module: ModuleType) -> Entry | None:
    declared = getattr(module, "DATASET", None)
    return declared if isinstance(declared, Entry) else None
