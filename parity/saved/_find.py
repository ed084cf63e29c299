"""Finds a saved network, and what it was trained on."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from parity import runs
from parity import weights as canonical
from parity.data import DataError
from parity.data.registry import entry
from parity.spec import NetworkSpec, TwincapsError
from parity.weights import Arrays


@dataclass(frozen=True, eq=False)
class Known:
    """A network as it was saved, and what it was trained on, if that is known.

    names   of its classes
    things  classes that an image shows
    fit     how a picture becomes an image of the network (`predict/fit.py`)
    """

    spec: NetworkSpec
    arrays: Arrays
    dataset: str | None
    names: tuple[str, ...]
    things: int = 1
    fit: str = "whole"


def find(name: str) -> Known:
    """A network that comes with twincaps, by its name, or that of a run or file."""
    path = Path(name)
    if name in canonical.pretrained_names():
        return _known(*canonical.load_pretrained(name), name.removeprefix("small-"))
    if not path.exists():
        raise TwincapsError(
            f"{name}: no such run or file, and no network of that name comes with twincaps; "
            f"expected one of {', '.join(canonical.pretrained_names())}, or a path"
        )
    dataset = data_dir = None
    if runs.holds_run(path):
        with runs.Run.open(path, read_only=True) as run:
            dataset, data_dir = run.training.dataset, run.options.data_dir
    return _known(*runs.read_weights(path), dataset, data_dir)


def _known(
    spec: NetworkSpec, arrays: Arrays, dataset: str | None, data_dir: str | None = None
) -> Known:
    known = Known(spec, arrays, dataset, tuple(map(str, range(spec.classes))))
    if dataset is None:
        # Nothing is known but the size, which is that of MNIST's digits more often than not.
        return dataclasses.replace(known, fit="digit") if spec.image == (28, 28, 1) else known
    try:
        declared = entry(dataset)
    except DataError:  # somebody's own arrays, under a name of theirs
        return known
    names = declared.class_names
    if declared.classes_in is not None and data_dir is not None:
        names = tuple(declared.classes_in(Path(data_dir).expanduser()))
    if len(names) != spec.classes:  # numbers, or a folder that has changed since
        names = known.names
    return dataclasses.replace(known, names=names, things=declared.things, fit=declared.fit)
