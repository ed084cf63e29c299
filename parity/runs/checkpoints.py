"""Checkpoints: folders that are whole or not there, each file under a checksum.

    checkpoints/step-00001234/weights.safetensors     the network, canonical names
                              optimizer.safetensors   the optimiser's slots, canonical names
                              state.json              where the run stood; checksums of the two

A checkpoint is written into `.new-step-...`, every file and the folder flushed to the disk, then
renamed. What it replaces waits as `.old-step-...` for that one rename; what it makes superfluous
is renamed to `.gone-step-...` before it is deleted. So whatever is called `step-...` is whole, or
was altered after it was written.
"""

import contextlib
import os
import shutil
import warnings
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from parity import weights
from parity.runs.disk import (
    RunError,
    RunWarning,
    flush_folder,
    read_json,
    sha256_of,
    telling,
    write_json,
)
from parity.spec import NetworkSpec, TrainedOn, TwincapsError, from_dict, to_dict
from parity.spec.plain import LATER
from parity.weights import Arrays

FORMAT, OPTIMIZER = "twincaps-checkpoint", "twincaps-optimizer"
KEEP = 3
PACKAGES = ("twincaps", "numpy", "safetensors", "torch", "jax", "flax", "optax")


@dataclass(frozen=True)
class State:
    """The content of `state.json`: where the run stood, and the files' checksums.

    Attributes:
        step: Training steps done.
        epoch: Whole epochs done.
        cursor: Batches done of the next one.
        accuracy: On the test set at this step, None between evaluations.
        best: The best score so far, None before the first evaluation.
        metrics_bytes: Length of metrics.jsonl at this step, and the sha256 of those bytes.
        validation: Accuracy on the images held out for validation, None where there are none; of a
            run that averages its weights, of the weights or the averages: the better.
    """

    step: int
    epoch: int
    cursor: int
    seed: int
    accuracy: float | None
    best: float | None
    weights_sha256: str
    optimizer_sha256: str
    metrics_bytes: int
    metrics_sha256: str
    versions: dict
    validation: float | None = field(default=None, metadata=LATER)

    @property
    def score(self) -> float | None:
        """The score that checkpoints are chosen by: validation accuracy, or else test."""
        return self.accuracy if self.validation is None else self.validation

    def __post_init__(self) -> None:
        for name in ("step", "epoch", "cursor", "metrics_bytes"):
            if getattr(self, name) < 0:
                raise RunError(f"{name} is {getattr(self, name)}; expected 0 or more")


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint, read and verified."""

    path: Path
    state: State
    weights: Arrays
    optimizer: Arrays

    @property
    def trainer_state(self) -> dict[str, Any]:
        """What a wing's `Trainer.set_state` takes."""
        return {"step": self.state.step, "weights": self.weights, "optimizer": self.optimizer}


def versions() -> dict[str, str]:
    """Versions of the packages that may affect a checkpoint; imports none of them."""
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def write(
    folder: Path,
    spec: NetworkSpec,
    arrays: Arrays,
    optimizer: Arrays,
    trained_on: TrainedOn | None = None,
    **state: Any,
) -> Path:
    """Writes a checkpoint, then deletes all but the last three and the best.

    Returns its path.

    `state` has the fields of `State` except the checksums of the two files and the versions.
    """
    path = folder / f"step-{state['step']:08d}"
    new, old = folder / f".new-{path.name}", folder / f".old-{path.name}"
    with telling(path, "write a checkpoint"):
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            weights.save(new / "weights.safetensors", spec, arrays, trained_on)
            header = {"format": OPTIMIZER, "schema": weights.SCHEMA}
            weights.save_arrays(new / "optimizer.safetensors", optimizer, header)
            whole = State(
                **state,
                weights_sha256=sha256_of(new / "weights.safetensors"),
                optimizer_sha256=sha256_of(new / "optimizer.safetensors"),
                versions=versions(),
            )
            write_json(new / "state.json", FORMAT, to_dict(whole))
            flush_folder(new)
            if path.exists():
                os.rename(path, old)
            os.rename(new, path)
            flush_folder(folder)
        except BaseException:
            clean(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
        _prune(folder)
    return path


def clean(folder: Path) -> None:
    """Deletes what a killed process left: half-written, replaced, half-deleted ones."""
    for left in folder.glob(".*-step-*"):
        kind, name = left.name[1:].split("-", 1)
        if kind == "old" and not (folder / name).exists():
            os.rename(left, folder / name)
        else:
            shutil.rmtree(left, ignore_errors=True)


def listed(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    return sorted(folder.glob("step-*"))


def _prune(folder: Path) -> None:
    paths, scores = listed(folder), _scores(folder)
    best = max(scores, key=scores.__getitem__, default=None)
    for path in paths[:-KEEP]:
        if path != best:
            gone = path.with_name(f".gone-{path.name}")
            os.rename(path, gone)
            shutil.rmtree(gone, ignore_errors=True)


def _scores(folder: Path) -> dict[Path, float]:
    """The scores of the checkpoints that have one, oldest first."""
    scores = {}
    for path in listed(folder):
        with contextlib.suppress(TwincapsError):
            if (score := read_state(path).score) is not None:
                scores[path] = score
    return scores


def read_state(path: Path) -> State:
    """The verified `state.json` of a checkpoint."""
    file = path / "state.json"
    try:
        state = from_dict(State, read_json(file, FORMAT))
    except RunError:
        raise
    except TwincapsError as error:
        raise RunError(f"{file}: {error}") from error
    if path.name != f"step-{state.step:08d}":
        raise RunError(f"{file}: is of step {state.step}; the folder was renamed")
    return state


def read(path: Path, spec: NetworkSpec) -> Checkpoint:
    """A checkpoint, every byte verified; raises TwincapsError naming the file."""
    state = read_state(path)
    files = path / "weights.safetensors", path / "optimizer.safetensors"
    for file, expected in zip(files, (state.weights_sha256, state.optimizer_sha256), strict=True):
        if not file.is_file():
            raise RunError(f"{file}: no such file; it was deleted")
        with telling(file, "read it"):
            if sha256_of(file) != expected:
                raise RunError(f"{file}: its content does not match its sha256; it was altered")
    file_spec, arrays = weights.load(files[0])
    if file_spec != spec:
        raise RunError(f"{files[0]}: is of another network than the run's spec.json")
    optimizer, _ = weights.load_arrays(files[1], OPTIMIZER)
    return Checkpoint(path, state, arrays, optimizer)


def best(folder: Path, spec: NetworkSpec) -> Checkpoint | None:
    """The whole checkpoint of the best score, None where none has one."""
    scores = _scores(folder)
    for path in sorted(scores, key=scores.__getitem__, reverse=True):
        with contextlib.suppress(TwincapsError):
            return read(path, spec)
    return None


def newest(folder: Path, spec: NetworkSpec) -> Checkpoint | None:
    """The newest whole checkpoint, None where there is none yet.

    Warns of each newer one that was torn or altered, naming it and the one taken; raises RunError
    when there are checkpoints and none of them is whole.
    """
    faults = []
    for path in reversed(listed(folder)):
        try:
            checkpoint = read(path, spec)
        except TwincapsError as error:
            faults.append(str(error))
            continue
        for fault in faults:
            warnings.warn(f"{fault}; going on from {path} instead", RunWarning, stacklevel=2)
        return checkpoint
    if faults:
        listing = "\n  ".join(faults)
        raise RunError(
            f"{folder}: none of its checkpoints is whole, so the run cannot go on; start another "
            f"one with --out:\n  {listing}"
        )
    return None
