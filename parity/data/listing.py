"""The verb `data`: what can be trained on, whether it is on this machine, and how to get it."""

import json as jsonlib
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from parity.data.registry import entry, names
from parity.data.splits import DataError


def listing(*, data_dir: Path | None = None, json: bool = False) -> None:
    """List the data sets: images and classes, whether a whole copy is here, licence and source.

    Args:
        data_dir: Look in this folder too.
        json: Print one JSON object instead of a table.
    """
    os.environ["TWINCAPS_OFFLINE"] = "1"  # looking must not download
    rows = {name: describe(name, data_dir) for name in names()}
    if json:
        print(jsonlib.dumps(rows, indent=1))
        return
    table = Table("--dataset", "what", "image", "here", "licence", "how to get it")
    for name, row in rows.items():
        image = "your own" if row["shape"] is None else "x".join(map(str, row["shape"]))
        table.add_row(name, row["title"], image, row["here"], row["licence"], row["source"])
    Console().print(table)


def describe(name: str, data_dir: Path | None = None) -> dict[str, Any]:
    """What the table says of one data set."""
    found = entry(name)
    try:
        dataset = found.load(data_dir)
        here = f"{len(dataset.train):,} + {len(dataset.test):,}"
    except DataError:
        here = "no"
    return {
        "title": found.title,
        "shape": found.shape,
        "classes": found.classes,
        "here": here,
        "licence": found.licence,
        "source": found.source,
    }
