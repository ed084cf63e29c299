"""Finds the data sets: each is one module of this package with an `Entry` called DATASET."""

import importlib
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import parity.data
from parity.data.splits import DataError, Dataset


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
    class_names  of the classes, where numbers are not their names
    things   classes that each image shows
    """

    name: str
    title: str
    shape: tuple[int, int, int] | None
    classes: int | None
    licence: str
    source: str
    load: Callable[[Path | None], Dataset]
    class_names: tuple[str, ...] = ()
    things: int = 1


def names() -> list[str]:
    """The known names, sorted."""
    modules = (module.name for module in pkgutil.iter_modules(parity.data.__path__))
    return sorted(found.name for name in modules if (found := _declared(_module(name))))


def entry(name: str) -> Entry:
    """What a data set's file declares; raises DataError with the known names."""
    known = {module.name for module in pkgutil.iter_modules(parity.data.__path__)}
    module = name.replace("-", "_")
    found = _declared(_module(module)) if module in known else None
    if found is None or found.name != name:
        raise DataError(f"data set {name!r} is unknown; expected one of {', '.join(names())}")
    return found


def load(name: str, data_dir: str | os.PathLike | None = None) -> Dataset:
    """A data set by name, its files looked for in `data_dir` first; raises DataError."""
    folder = None if data_dir is None else Path(data_dir).expanduser()
    return entry(name).load(folder)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"parity.data.{name}")


def _declared(module: ModuleType) -> Entry | None:
    found = getattr(module, "DATASET", None)
    return found if isinstance(found, Entry) else None
