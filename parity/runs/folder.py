"""The run folder: whole at every instant, verified, the same for either wing.

    spec.json        the network
    training.json    the training, the options of the run, its preset's name, what it trains on
    metrics.jsonl    one object a line: each training step, each evaluation
    checkpoints/     see parity/runs/checkpoints.py
    figures/         pictures, at the end of a training or when asked for

A run is made in a hidden folder beside its place, then renamed, so that what has its name is
whole. Whoever writes to it holds a lock, which the kernel releases even when a process is killed.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from parity import weights
from parity.runs import checkpoints
from parity.runs.checkpoints import Checkpoint
from parity.runs.disk import (
    WINDOWS,
    RunError,
    RunWarning,
    discard,
    flush_folder,
    hold,
    no_link,
    read_json,
    telling,
    write_json,
)
from parity.spec import (
    NetworkSpec,
    RunOptions,
    SpecError,
    TrainedOn,
    TrainingSpec,
    from_dict,
    to_dict,
)

SPEC, TRAINING = "twincaps-spec", "twincaps-training"


class Run:
    """A run folder that this process may read and, unless it is read-only, write.

    Made by `create` or `open`; use it in a `with` statement, or `close` it.
    """

    def __init__(
        self,
        path: Path,
        spec: NetworkSpec,
        training: TrainingSpec,
        options: RunOptions,
        preset: str,
        lock: IO[str] | None,
    ) -> None:
        self.path, self.spec, self.training = path, spec, training
        self.options, self.preset = options, preset
        self.trained_on: TrainedOn | None = None
        self._lock = lock
        self._metrics: IO[bytes] | None = None
        self._metrics_bytes, self._metrics_sum = 0, hashlib.sha256()

    @classmethod
    def create(
        cls,
        path: str | os.PathLike,
        spec: NetworkSpec,
        training: TrainingSpec,
        options: RunOptions | None = None,
        preset: str = "",
    ) -> "Run":
        """Makes a run folder and locks it; raises RunError where something is there.

        Of several processes that make the same one at once, one does, and the others raise.
        """
        path, options = _named(path), options or RunOptions()
        refuse_occupied(path)
        with telling(path, "make a run folder", "nothing was made: fix this, or name another"):
            path.parent.mkdir(parents=True, exist_ok=True)
            _clear_unfinished(path)
            new, lock = _hidden(path)
            run = cls(new, spec, training, options, preset, lock)
            try:
                write_json(new / "spec.json", SPEC, {"spec": to_dict(spec)})
                run._write_training()
                (new / "metrics.jsonl").touch()
                (new / "checkpoints").mkdir()
                (new / "figures").mkdir()
                flush_folder(new)
                if WINDOWS:  # renames no folder with an open file inside, and onto no other
                    lock.close()
                    with contextlib.suppress(OSError):
                        path.rmdir()
                _rename(new, path)
                flush_folder(path.parent)
                run.path = path
                if WINDOWS:
                    run._lock = hold(path)
            except BaseException:
                run.close()
                shutil.rmtree(new, ignore_errors=True)
                raise
        return run

    @classmethod
    def open(cls, path: str | os.PathLike, *, read_only: bool = False) -> "Run":
        """Opens a run: to write under its lock, or to read beside a writer.

        Raises RunError where there is no run, another process is writing to it, or one of its
        two descriptions was altered.
        """
        path = _named(path)
        if not holds_run(path):
            raise RunError(f"{path}: no run here; expected a folder that train.py made")
        with telling(path, "open the run"):
            lock = None if read_only else hold(path)
        try:
            file = path / "spec.json"
            (spec,) = _specs(file, read_json(file, SPEC), spec=NetworkSpec)
            file = path / "training.json"
            values = read_json(file, TRAINING)
            training, options = _specs(file, values, training=TrainingSpec, options=RunOptions)
            run = cls(path, spec, training, options, str(values.get("preset", "")), lock)
            if "trained_on" in values:  # absent in runs made before it was saved
                (run.trained_on,) = _specs(file, values, trained_on=TrainedOn)
            if not read_only:
                with telling(path, "clear up after an earlier process"):
                    run._clear()
            return run
        except BaseException:
            if lock is not None:
                lock.close()
            raise

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the folder; another process may then write to it."""
        for file in (self._metrics, self._lock):
            if file is not None:
                with contextlib.suppress(OSError):  # a full disk was warned of before
                    file.close()
        self._metrics = self._lock = None

    def change(self, training: TrainingSpec, options: RunOptions) -> None:
        """Goes on with another number of epochs, another backend or other options."""
        self.training, self.options = training, options
        with telling(self.path, "change training.json"):
            self._write_training()
            flush_folder(self.path)

    def remember(self, trained_on: TrainedOn) -> None:
        """Saves what the run is trained on, for whoever asks its network later."""
        self.trained_on = trained_on
        self.change(self.training, self.options)

    def append(self, line: Mapping[str, Any]) -> None:
        """Adds one line to metrics.jsonl."""
        content = (json.dumps(line, allow_nan=False) + "\n").encode()
        with telling(self.path, "write metrics.jsonl"):
            if self._metrics is None:
                self._metrics = open(self.path / "metrics.jsonl", "ab", opener=no_link)  # noqa: SIM115
            self._metrics.write(content)
            self._metrics.flush()
        self._metrics_bytes += len(content)
        self._metrics_sum.update(content)

    def metrics(self) -> list[dict[str, Any]]:
        """The whole lines of metrics.jsonl."""
        return [line for _, line in _lines(self._read_metrics())]

    def _read_metrics(self) -> bytes:
        file = self.path / "metrics.jsonl"
        with telling(file, "read it"):
            return file.read_bytes() if file.exists() else b""

    def save(
        self,
        state: Mapping[str, Any],
        *,
        epoch: int,
        cursor: int,
        accuracy: float | None = None,
        best: float | None = None,
        validation: float | None = None,
    ) -> Path:
        """Writes a checkpoint of a `Trainer.get_state()`; returns its path.

        `epoch` and `cursor` count whole epochs done and batches done of the next one; the others
        are as in `checkpoints.State`.
        """
        with telling(self.path, "flush metrics.jsonl"):
            if self._metrics is not None:
                weights.flush(self._metrics.fileno())
        return checkpoints.write(
            self.path / "checkpoints",
            self.spec,
            state["weights"],
            state["optimizer"],
            self.trained_on,
            step=state["step"],
            epoch=epoch,
            cursor=cursor,
            seed=self.training.seed,
            accuracy=accuracy,
            best=best,
            validation=validation,
            metrics_bytes=self._metrics_bytes,
            metrics_sha256=self._metrics_sum.hexdigest(),
        )

    def newest(self) -> Checkpoint | None:
        """The newest whole checkpoint, or None; see `checkpoints.newest`.

        Each epoch ends with a checkpoint. Where those of epochs in metrics.jsonl are missing, an
        earlier one is taken with a warning, and RunError is raised where there is none.
        """
        folder = self.path / "checkpoints"
        checkpoint = checkpoints.newest(folder, self.spec)
        epochs = [x.get("epoch", 1) for x in self.metrics() if x.get("event") == "train"]
        done = max(epochs, default=1) - 1
        fault = f"though metrics.jsonl records {done} whole epochs; it was deleted"
        if checkpoint is None and done > 0:
            raise RunError(
                f"{folder}: holds no checkpoint, {fault}: put one back, or start another run with "
                "--out"
            )
        # A newer one that is torn was warned of.
        newest_whole = checkpoint is not None and checkpoints.listed(folder)[-1] == checkpoint.path
        if checkpoint is not None and newest_whole and done > checkpoint.state.epoch:
            warnings.warn(
                f"{folder}: holds none newer than {checkpoint.path}, {fault}; "
                "going on from that one",
                RunWarning,
                stacklevel=2,
            )
        return checkpoint

    def best(self) -> Checkpoint | None:
        """The whole checkpoint of the best score, None where there is none.

        It is chosen on the images held out for validation; without those on the test set, where
        its accuracy is then better than the network is.
        """
        return checkpoints.best(self.path / "checkpoints", self.spec)

    def cut_metrics(self, checkpoint: Checkpoint | None) -> None:
        """Cuts metrics.jsonl back to a checkpoint's step, or to nothing.

        Warns where the lines before it were altered; the whole ones of them are kept.
        """
        file = self.path / "metrics.jsonl"
        content = self._read_metrics()
        if checkpoint is None:
            start = b""
        else:
            state = checkpoint.state
            start = content[: state.metrics_bytes]
            if hashlib.sha256(start).hexdigest() != state.metrics_sha256:
                lines = [raw for raw, x in _lines(content) if x["step"] <= state.step]
                start = b"".join(lines)
                warnings.warn(
                    f"{file}: was altered or cut short; going on from {checkpoint.path} with the "
                    f"{len(lines)} whole lines up to its step",
                    RunWarning,
                    stacklevel=2,
                )
        if start != content or not file.exists():
            with telling(file, "cut it back to the checkpoint"):
                weights.write_whole(file, start)
                flush_folder(self.path)
        self._metrics_bytes, self._metrics_sum = len(start), hashlib.sha256(start)

    def _write_training(self) -> None:
        values = {"training": to_dict(self.training), "options": to_dict(self.options)}
        if self.trained_on is not None:
            values["trained_on"] = to_dict(self.trained_on)
        write_json(self.path / "training.json", TRAINING, {"preset": self.preset, **values})

    def _clear(self) -> None:
        for part in self.path.glob(".*.part"):
            part.unlink(missing_ok=True)
        for name in ("checkpoints", "figures"):
            (self.path / name).mkdir(exist_ok=True)
        checkpoints.clean(self.path / "checkpoints")


def chosen(path: Path, *, best: bool = False) -> tuple[Run, Checkpoint]:
    """A run, read only, and its newest whole checkpoint, or its best one.

    Raises RunError where it has none yet.
    """
    with Run.open(path, read_only=True) as run:
        checkpoint = run.newest()
        checkpoint = (run.best() or checkpoint) if best else checkpoint
    if checkpoint is None:
        raise RunError(f"{path}: has no checkpoint yet; go on with it by --resume {path}")
    return run, checkpoint


def holds_run(path: Path) -> bool:
    """Whether a folder is a run's, even one that was damaged since."""
    return any((path / name).exists() for name in ("spec.json", "training.json", "checkpoints"))


def refuse_occupied(path: str | os.PathLike) -> None:
    """Raises RunError where there is a run, a file or a folder that is not empty."""
    path = Path(path)
    if holds_run(path):
        raise RunError(
            f"{path}: already holds a run; go on with it by --resume {path}, or name another "
            "folder with --out"
        )
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise RunError(f"{path}: is there and is not a run; name another folder with --out")


def _named(path: str | os.PathLike) -> Path:
    path = Path(path)
    return path if path.name not in ("", "..") else path.resolve()


def _specs(file: Path, values: Mapping[str, Any], **hints: type) -> list[Any]:
    """The specs of these names and kinds among the values of a file."""
    try:
        return [from_dict(hint, values.get(name)) for name, hint in hints.items()]
    except SpecError as error:
        raise RunError(f"{file}: {error}") from error


def _lines(content: bytes) -> Iterator[tuple[bytes, dict[str, Any]]]:
    for raw in content.splitlines(keepends=True):
        try:
            line = json.loads(raw) if raw.endswith(b"\n") else None
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and "step" in line and _plain(line):
            yield raw, line


def _plain(line: Mapping[str, Any]) -> bool:
    """Whether the values of a line are of the kinds that `loop` writes."""
    whole = all(type(line[key]) is int for key in ("step", "epoch") if key in line)
    numbers = (value for key, value in line.items() if key != "event")
    return whole and all(type(x) in (int, float) and math.isfinite(x) for x in numbers)


def _hidden(path: Path) -> tuple[Path, IO[str]]:
    """A hidden folder beside the place of a run, and its lock.

    Its name is nobody else's, on other machines that share the disk neither.
    """
    while True:
        new = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.new")
        new.mkdir()
        try:
            return new, hold(new, path)
        except (RunError, FileNotFoundError):
            # Another process found it before it was locked, and took it for one that was left.
            shutil.rmtree(new, ignore_errors=True)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise


def _rename(new: Path, path: Path) -> None:
    """Gives a run its name; RunError where another process did so meanwhile.

    Of several that rename a folder to the same name one wins: it is not empty then.
    """
    try:
        os.rename(new, path)
    except OSError:
        refuse_occupied(path)
        raise


def _clear_unfinished(path: Path) -> None:
    """Deletes what killed processes left of this very run."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9]+(-[0-9a-f]+)?\.new")
    for left in path.parent.iterdir():
        if name.fullmatch(left.name):
            discard(left)
