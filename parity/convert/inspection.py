"""What a file, a checkpoint or a run holds, as plain JSON values: `describe`."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from parity.convert import formats
from parity.convert.conversion import headed, layouts_for, located, own_layouts
from parity.convert.formats import File
from parity.convert.layouts import Layout
from parity.convert.match import match, matching
from parity.runs import Run, checkpoints
from parity.runs.disk import sha256_of
from parity.spec import TwincapsError, to_dict
from parity.weights import FORMAT, Arrays


def describe(path: str | os.PathLike) -> dict[str, Any]:
    """All that a file or folder says of itself, verified; raises TwincapsError.

    A file: path, kind, `taken_off_names` (what a framework's tools had put around them, absent
    without), layout (or `layouts`, those that its names fit), spec, sha256 (its
    header's, None without one), file_sha256, parameters, bytes, and for each tensor name, axes,
    shape, dtype and sha256. The sha256 of a tensor is of its numbers in canonical axes where its
    axes are known, so that it is the same in every format; else of its bytes as they are.
    A checkpoint: state, weights, optimizer. A run: preset, spec, training, options, checkpoints,
    and the weights of the newest whole one.
    """
    path = located(path)
    kind = formats.kind_of(path)
    if kind == "run":
        return _run(path)
    if kind == "checkpoint":
        return _checkpoint(path)
    return _file(formats.read(path))


def _run(path: Path) -> dict[str, Any]:
    with Run.open(path, read_only=True) as run:
        newest = run.newest()
        listed = [_glance(folder, run) for folder in checkpoints.listed(run.path / "checkpoints")]
        about = {"path": str(path), "kind": "run", "preset": run.preset, "spec": to_dict(run.spec)}
        about |= {"training": to_dict(run.training), "options": to_dict(run.options)}
    if run.trained_on is not None:
        about["trained_on"] = to_dict(run.trained_on)
    weights = None if newest is None else describe(newest.path / "weights.safetensors")
    return {**about, "checkpoints": listed, "weights": weights}


def _glance(path: Path, run: Run) -> dict[str, Any]:
    try:
        state = checkpoints.read(path, run.spec).state
    except TwincapsError as error:
        return {"path": str(path), "whole": False, "fault": str(error)}
    about = {"step": state.step, "epoch": state.epoch, "accuracy": state.accuracy}
    if state.validation is not None:
        about["validation"] = state.validation
    return {"path": str(path), "whole": True, **about}


def _checkpoint(path: Path) -> dict[str, Any]:
    state = to_dict(checkpoints.read_state(path.resolve()))
    files = {name: describe(path / f"{name}.safetensors") for name in ("weights", "optimizer")}
    return {"path": str(path), "kind": "checkpoint", "state": state, **files}


def _file(file: File) -> dict[str, Any]:
    header, tensors = file.header or {}, file.tensors
    about: dict[str, Any] = {"path": str(file.path), "kind": file.kind}
    if file.taken:
        about["taken_off_names"] = list(file.taken)
    axes: dict[str, str] = {}
    canonical: Arrays = {}
    if header.get("format") in (FORMAT, formats.TORCH):
        network = headed(file)
        axes, canonical = header["axes"], network.arrays
        about |= {"layout": network.layout, "spec": to_dict(network.spec)}
        if network.trained_on is not None:
            about["trained_on"] = to_dict(network.trained_on)
    elif header:
        about |= {"format": header["format"]}
    else:
        fitting = own_layouts(file) or matching(tensors)
        about |= {"layouts": fitting}
        if len(fitting) == 1:
            axes = _axes(layouts_for(file, fitting[0])[fitting[0]], tensors)
    about |= {
        "sha256": header.get("sha256"),
        "file_sha256": sha256_of(file.path) if file.path.is_file() else None,
        "parameters": sum(array.size for array in tensors.values()),
        "bytes": sum(array.nbytes for array in tensors.values()),
    }
    places = {name: place for place, name in enumerate(canonical)}
    rows = [
        {
            "name": name,
            "axes": axes.get(name),
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "sha256": _sha256(canonical.get(name, array)),
        }
        for name, array in sorted(tensors.items(), key=lambda item: places.get(item[0], 0))
    ]
    return {**about, "tensors": rows}


def _axes(layout: Layout, tensors: Arrays) -> dict[str, str]:
    """The axes of each tensor of a file; one of a stack lacks the stack's axis."""
    hits, axes = match(layout, tensors), {}
    for name, group in hits.sources.items():
        order = hits.axes[name].split(" ", 1)[1] if name in hits.stacked else hits.axes[name]
        axes |= dict.fromkeys(group, order)
    return axes


def _sha256(array: np.ndarray) -> str:
    total = hashlib.sha256(f"{array.dtype} {list(array.shape)} ".encode())
    total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
