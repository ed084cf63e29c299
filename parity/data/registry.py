"""Finds the data sets: each is one file of `sets` with an `Entry` called DATASET."""

import importlib
import os
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from parity.data import sets
from parity.data.splits import DataError, Dataset


@dataclass(frozen=True)
class Found:
    """A copy of a data set: where it lies, None for nowhere, and its images to train and to test.

    classes  where the files decide how many
    """

    place: Path | None
    train: int
    test: int
    classes: int | None = None


@dataclass(frozen=True)
class Entry:
    """What a data set's file declares of it.

    name     what users call it: the file's name, with hyphens
    title    one line on what it shows
    shape    height, width, channels of the images a network sees, None if the files decide
    classes  how many, None if the files decide
    licence  of the data, as its owners state it
    source   how to get it
    load     makes it, given the folder the user named, if any
    look     finds what `load` would make it of, by names and sizes alone, and raises as it does
    class_names  of the classes, where numbers are not their names
    classes_in   the names of the classes in the folder the user named, where that decides
    things   classes that each image shows
    fit      how `predict` makes an image of a picture (`predict/fit.py`)
    recipe   fields of a training in which this data set departs from the preset's
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
    recipe: Mapping[str, Any] = field(default_factory=dict)


def names() -> list[str]:
    """The known names, sorted."""
    modules = (module.name for module in pkgutil.iter_modules(sets.__path__))
    return sorted(found.name for name in modules if (found := _declared(_module(name))))


def entry(name: str) -> Entry:
    """What a data set's file declares; raises DataError with the known names."""
    known = {module.name for module in pkgutil.iter_modules(sets.__path__)}
    module = name.replace("-", "_")
    found = _declared(_module(module)) if module in known else None
    if found is None or found.name != name:
        raise DataError(f"data set {name!r} is unknown; expected one of {', '.join(names())}")
    return found


def load(name: str, data_dir: str | os.PathLike | None = None) -> Dataset:
    """A data set by name, its files looked for in `data_dir` first; raises DataError."""
    folder = None if data_dir is None else Path(os.path.expanduser(data_dir))
    return entry(name).load(folder)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{sets.__name__}.{name}")


def _declared(module: ModuleType) -> Entry | None:
    found = getattr(module, "DATASET", None)
    return found if isinstance(found, Entry) else None
