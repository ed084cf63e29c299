"""The verb `data`: the data sets, where they are here, and how to get them."""

import json as jsonlib
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from parity.data.registry import Entry, Found, entry, names
from parity.data.splits import DataError, NotFoundError


def listing(*, data_dir: Path | None = None, json: bool = False) -> None:
    """List the data sets: images, classes, the copy found here, licence, source.

    Files are known by their names and sizes; what is in them is checked when they are loaded.

    Args:
        data_dir: Look in this folder too.
        json: Print one JSON object instead of a table.
    """
    os.environ["TWINCAPS_OFFLINE"] = "1"  # looking must not download
    rows = {name: describe(name, data_dir) for name in names()}
    if json:
        print(jsonlib.dumps(rows, indent=1))
        return
    table = Table.grid(padding=(0, 2, 1, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, row in rows.items():
        table.add_row(name, Text("\n".join(_lines(row))))
    Console(highlight=False).print(table)


def describe(name: str, data_dir: Path | None = None) -> dict[str, Any]:
    """One data set as a row; its `fault` is what is wrong with the copy found."""
    declared = entry(name)
    row = {"title": declared.title, "shape": declared.shape, "classes": declared.classes}
    row |= {"train": None, "test": None, "place": None, "fault": None}
    try:
        copy = _loaded(declared, data_dir) if declared.look is None else declared.look(data_dir)
        row |= {"train": copy.train, "test": copy.test, "classes": copy.classes or declared.classes}
        row["place"] = None if copy.place is None else str(copy.place)
    except NotFoundError:
        pass
    except DataError as error:
        row["fault"] = str(error)
    return row | {"licence": declared.licence, "source": declared.source}


def _loaded(declared: Entry, data_dir: Path | None) -> Found:
    dataset = declared.load(data_dir)
    return Found(dataset.place, len(dataset.train), len(dataset.test), dataset.classes)


def _lines(row: dict[str, Any]) -> list[str]:
    here = "not found"
    if row["fault"] is not None:
        here = f"not found whole: {row['fault']}"
    elif row["train"] is not None:
        here = f"found: {row['train']:,} + {row['test']:,} images"
        here += "" if row["place"] is None else f" in {row['place']}"
    here = here.encode("utf-8", "backslashreplace").decode()  # a path may hold any bytes
    size = "" if row["shape"] is None else f"{'x'.join(map(str, row['shape']))}, "
    return [row["title"], f"{size}{here}", f"get it: {row['source']}", f"licence: {row['licence']}"]
