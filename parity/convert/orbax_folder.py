"""An orbax checkpoint: a folder of the pure dict of a network, the header in its metadata.

    {"stem": {"0": {"kernel": ..}}, "primary": {"kernel": ..}, ...}

`nnx.restore_int_paths` turns it into what `nnx.replace_by_pure_dict` takes.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from parity.convert.installed import needed
from parity.weights import Arrays, WeightsError


def write(path: Path, arrays: Arrays, header: str) -> None:
    """Write a folder beside `path`, then rename it: at no instant is `path` half a checkpoint."""
    orbax = needed("orbax.checkpoint", path)
    beside = path.resolve()
    new, old = (beside.with_name(f".{path.name}.{os.getpid()}.{each}") for each in ("new", "old"))
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *groups, last = name.split(".")
        inner = tree
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = array
    try:
        with orbax.StandardCheckpointer() as checkpointer:
            checkpointer.save(new, tree, custom_metadata={"twincaps": header})
        if path.exists():
            os.rename(path, old)
        os.rename(new, path)
    finally:
        if old.exists() and not path.exists():
            os.rename(old, path)
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)


def read(path: Path) -> tuple[Arrays, Any]:
    """The arrays of an orbax checkpoint by names with dots, and its header, None where it has none.

    Raises WeightsError for a folder that is not a whole checkpoint of arrays.
    """
    orbax = needed("orbax.checkpoint", path)
    try:
        with orbax.Checkpointer(orbax.PyTreeCheckpointHandler()) as checkpointer:
            metadata = checkpointer.metadata(path.resolve())
            tree = metadata.item_metadata.tree
            plain = _each(tree, lambda _: orbax.RestoreArgs(restore_type=np.ndarray))
            how = orbax.args.PyTreeRestore(restore_args=plain)
            restored = checkpointer.restore(path.resolve(), args=how)
        header = (metadata.custom_metadata or {}).get("twincaps")
    except Exception as error:  # orbax and tensorstore each have their own
        raise WeightsError(f"{path}: not a whole orbax checkpoint of arrays ({error})") from error
    arrays: Arrays = {}
    _flatten(restored, "", arrays)
    return arrays, header


def _each(tree: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(tree, dict):
        return {key: _each(value, function) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_each(value, function) for value in tree]
    return function(tree)


def _flatten(tree: Any, prefix: str, arrays: Arrays) -> None:
    if isinstance(tree, dict | list | tuple):
        pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in pairs:
            _flatten(value, f"{prefix}.{key}" if prefix else str(key), arrays)
    else:
        arrays[prefix] = np.asarray(tree)
