"""Networks as they were saved, and what they were trained on."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from parity import runs
from parity import weights as canonical
from parity.data import DataError, folder
from parity.data.registry import entry
from parity.spec import NetworkSpec, TwincapsError
from parity.weights import Arrays


@dataclass(frozen=True, eq=False)
class Known:
    """A network as it was saved, and what it was trained on, if that is known.

    names   of its classes
    things  classes that an image shows
    """

    spec: NetworkSpec
    arrays: Arrays
    dataset: str | None
    names: tuple[str, ...]
    things: int = 1


def look_up(name: str) -> Known:
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
    names, things = tuple(map(str, range(spec.classes))), 1
    if dataset == folder.DATASET.name:
        own = () if data_dir is None else tuple(folder.classes(Path(data_dir).expanduser()))
        names = own if len(own) == spec.classes else names  # it may have changed since
    elif dataset is not None:
        with contextlib.suppress(DataError):  # somebody's own arrays, under a name of theirs
            found = entry(dataset)
            names, things = found.class_names or names, found.things
    return Known(spec, arrays, dataset, names, things)
