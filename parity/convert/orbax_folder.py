"""An orbax checkpoint: a folder of a network's pure dict, with our header.

    {"stem": {"0": {"kernel": ..}}, "primary": {"kernel": ..}, ...}

`nnx.restore_int_paths` turns it into what `nnx.replace_by_pure_dict` takes. `twincaps.json` holds
the header and the sha256 of every other file: orbax is given no file of ours that was altered.
"""

import functools
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from parity.convert.installed import needed
from parity.runs.disk import sha256_of
from parity.spec import TwincapsError, gist
from parity.weights import Arrays, WeightsError, write_whole

OURS = "twincaps.json"
_STEP = re.compile(r"(?:.*_)?(\d+)")  # with the prefix of a manager, or without


def write(path: Path, arrays: Arrays, header: str) -> None:
    """Writes a folder beside `path` and renames it: `path` is whole at all times."""
    orbax = needed("orbax.checkpoint", path)
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *groups, last = name.split(".")
        inner = tree
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = array
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent.resolve()) as beside:
        new, old = Path(beside, "new"), Path(beside, "old")
        with orbax.StandardCheckpointer() as checkpointer:
            checkpointer.save(new, tree)
        content = {"header": header, "files": _sums(new)}
        write_whole(new / OURS, json.dumps(content, sort_keys=True, indent=1).encode())
        try:
            if path.exists():
                os.rename(path, old)
            os.rename(new, path)
        finally:
            if old.exists() and not path.exists():
                os.rename(old, path)


def checkpoint(path: Path) -> Path | None:
    """The checkpoint of arrays that a folder is or holds; None without one.

    A CheckpointManager's folder has a folder for each step ("123", "step_123"), of which the
    newest is taken, and that one for each item, of which "default" or "params" is, or the only
    one. Raises TwincapsError for several others.
    """
    if (path / "_METADATA").is_file():
        return path
    folders = [folder for folder in path.iterdir() if folder.is_dir()]
    steps = {int(hit[1]): folder for folder in folders if (hit := _STEP.fullmatch(folder.name))}
    for _, step in sorted(steps.items(), reverse=True):
        if (item := _item(step)) is not None:
            return item
    item = _item(path)
    whole_or_torn = (path / "_CHECKPOINT_METADATA").is_file()
    return path if item is None and whole_or_torn else item


def _item(step: Path) -> Path | None:
    """The network among the items of a step."""
    if (step / "_METADATA").is_file():
        return step
    items = {folder.name: folder for folder in step.iterdir() if (folder / "_METADATA").is_file()}
    for name in ("default", "params"):
        if name in items:
            return items[name]
    if len(items) > 1:
        raise TwincapsError(
            f"{step}: an orbax checkpoint of several items, {', '.join(sorted(items))}; expected "
            f"the folder of one, {min(items.values())} for example"
        )
    return next(iter(items.values()), None)


def read(path: Path) -> tuple[Arrays, Any]:
    """The arrays of an orbax checkpoint by names with dots, and its header or None.

    Raises WeightsError for a folder that is not a whole checkpoint of arrays.
    """
    header = _header(path) if (path / OURS).is_file() else None
    orbax, jax = needed("orbax.checkpoint", path), needed("jax", path)
    try:
        with orbax.Checkpointer(orbax.PyTreeCheckpointHandler()) as checkpointer:
            tree = checkpointer.metadata(path.resolve()).item_metadata.tree
            plain = jax.tree.map(lambda _: orbax.RestoreArgs(restore_type=np.ndarray), tree)
            how = orbax.args.PyTreeRestore(restore_args=plain)
            restored = checkpointer.restore(path.resolve(), args=how)
    except Exception as error:  # orbax and tensorstore each have their own
        raise WeightsError(
            f"{path}: not a whole orbax checkpoint of arrays ({gist(error)})"
        ) from error
    if isinstance(restored, dict):  # beside an optimiser, as in a .msgpack file
        restored = restored.get("params", restored)
    name = functools.partial(jax.tree_util.keystr, simple=True, separator=".")
    leaves = jax.tree.leaves_with_path(restored)
    return {name(place): np.asarray(leaf) for place, leaf in leaves}, header


def _sums(folder: Path) -> dict[str, str]:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != OURS]
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in files}


def _header(path: Path) -> Any:
    try:
        content = json.loads((path / OURS).read_bytes())
        header, files = content["header"], dict(content["files"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path / OURS}: not what twincaps wrote ({error!r})") from error
    sums = _sums(path)
    if altered := sorted(name for name in {*sums, *files} if sums.get(name) != files.get(name)):
        raise WeightsError(f"{path}: altered since it was written: {', '.join(altered)}")
    return header
