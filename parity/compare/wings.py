"""The two wings, each in a process of its own, or both in this one."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity.compare import tasks, worker
from parity.compare.subject import Subject
from parity.spec import BACKENDS, TwincapsError, gist
from parity.traces.recording import Trace
from parity.traces.recording import load as load_trace
from parity.weights import Arrays, load_arrays
from parity.wing.interpreter import OURS_ALONE, ROOT, environment

SUBJECT = "subject.safetensors"
COMMAND = OURS_ALONE + "from parity.compare.worker import main\nmain()\n"


class WingError(Exception):
    """A wing raised something while it computed: the ladder shows it as a difference."""


class Here:
    """A wing in this process; float64 needs JAX's 64-bit types on from the start."""

    def __init__(self, name: str, precision: str, device: str, subject: Subject):
        self.name, self.precision = name, precision
        self._wing = tasks.Wing(name, precision, device, subject)
        self._error: Exception | None = None

    def send(self, task: str, path: Path, options: dict[str, Any]) -> None:
        """Computes and writes the answer; an error waits until it is received."""
        self._error = None
        try:
            worker.perform(self._wing, task, str(path), options)
        except Exception as error:  # whatever a mistake in a wing may raise
            self._error = error

    def receive(self) -> None:
        """Raises what went wrong, if anything did."""
        if self._error is not None:
            kind = type(self._error).__name__
            raise WingError(f"{self.name}: {kind}: {gist(self._error)[: worker.LONGEST]}")

    def close(self) -> None:
        """Does nothing: there is no process to end."""


class Process:
    """A wing in a process of its own, in which the other one is never imported."""

    def __init__(
        self,
        name: str,
        precision: str,
        device: str,
        subject: Path,
        python: str = sys.executable,
        patch: str | None = None,
    ):
        self.name, self.precision = name, precision
        self._log = subject.with_name(f"{name}-{precision}-{device}.log")
        with open(self._log, "wb") as log, _starting(python):
            self._process = subprocess.Popen(
                [python, "-c", COMMAND.format(root=str(ROOT))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1,
                env=_environment(precision, device, other=python != sys.executable),
            )  # fmt: skip
        first = {"wing": name, "precision": precision, "device": device, "patch": patch}
        self._write({**first, "subject_path": str(subject)})

    def begin(self) -> None:
        """Waits until the wing is there; raises TwincapsError where it cannot be."""
        reply = self._read()
        if reply.get("kind") == "missing":
            raise TwincapsError(
                f"the {self.name} wing cannot be loaded: {reply['error']} is not installed here; "
                f"install it with pip install 'twincaps[{self.name}]', or name the interpreter "
                f"that has it with --{self.name}-python"
            )
        if reply:
            raise TwincapsError(f"the {self.name} wing cannot be loaded: {reply['error']}")

    def send(self, task: str, path: Path, options: dict[str, Any]) -> None:
        """Asks for a task; its answer is there once `receive` returns."""
        self._write({"task": task, "path": str(path), "options": options})

    def receive(self) -> None:
        """Waits for the answer to the last request; raises WingError."""
        if reply := self._read():
            raise WingError(f"{self.name}: {reply['kind']}: {reply['error']}")

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()

    def _write(self, request: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # whoever reads the reply says so
            self._process.stdin.write(json.dumps(request) + "\n")

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        lines = self._log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        raise TwincapsError(
            f"the process of the {self.name} wing ended with exit code "
            f"{self._process.wait()}: {lines[-1]}"
        )


@contextlib.contextmanager
def _starting(python: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TwincapsError(f"there is no interpreter {python} ({error.strerror})") from error


def _environment(precision: str, device: str, other: bool) -> dict[str, str]:
    """The environment of a wing's process, with what JAX reads when it is imported."""
    wanted = {
        "JAX_ENABLE_X64": "1" if precision == "float64" else "0",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # Both wings compute at the same time, and torch's threads spin while they wait.
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2)),
    }
    if device == "cpu":
        wanted["JAX_PLATFORMS"] = "cpu"
    return environment(other) | wanted


@dataclass(frozen=True)
class Reply:
    """What a wing answered: arrays, and the rest of the file's header."""

    arrays: Arrays
    facts: dict[str, Any]


class Pair:
    """Both wings in one precision on one device, asked together."""

    def __init__(self, handles: Mapping[str, Here | Process], folder: Path):
        self.handles, self.folder, self._count = handles, folder, 0

    def ask(self, task: str, **options: Any) -> dict[str, Reply]:
        """The answers of both wings to the same task, computed at the same time."""
        return self.ask_each(task, dict.fromkeys(self.handles, options))

    def ask_each(self, task: str, options: Mapping[str, dict[str, Any]]) -> dict[str, Reply]:
        """The answers of the wings named in `options`, each asked with its own."""
        paths = self._send(task, options)
        replies = {}
        for name, path in paths.items():
            arrays, header = load_arrays(path, tasks.FORMAT)
            replies[name] = Reply(arrays, header)
            path.unlink()
        return replies

    def trace(self, **options: Any) -> dict[str, Trace]:
        """The traces of both wings."""
        return self.trace_each(dict.fromkeys(self.handles, options))

    def trace_each(self, options: Mapping[str, dict[str, Any]]) -> dict[str, Trace]:
        """The traces of the wings named in `options`, each asked with its own."""
        paths = self._send("trace", options)
        traces = {name: load_trace(path) for name, path in paths.items()}
        for path in paths.values():
            path.unlink()
        return traces

    def __enter__(self) -> "Pair":
        return self

    def __exit__(self, *_: object) -> None:
        """Ends both processes."""
        for handle in self.handles.values():
            handle.close()

    def _send(self, task: str, options: Mapping[str, dict[str, Any]]) -> dict[str, Path]:
        self._count += 1
        paths = {}
        for name, own in options.items():
            handle = self.handles[name]
            paths[name] = self.folder / f"{name}-{handle.precision}-{self._count}.safetensors"
            handle.send(task, paths[name], own)
        faults = []
        for name in options:
            try:
                self.handles[name].receive()
            except WingError as error:
                faults.append(str(error))
        if faults:
            raise WingError("; ".join(faults))
        return paths


def pair(
    subject: Subject,
    precision: str,
    folder: Path,
    *,
    device: str = "cpu",
    isolated: bool = True,
    pythons: Mapping[str, str] | None = None,
    patches: Mapping[str, str] | None = None,
    only: str | None = None,
) -> Pair:
    """Both wings, ready to be asked, or the one that `only` names.

    Args:
        subject: The network and data that they are given.
        precision: float64 or float32.
        folder: Where the subject and the answers are written.
        device: "cpu" or "cuda".
        isolated: Whether each wing has a process of its own; otherwise both are in this one.
        pythons: wing -> the interpreter of its process, this one's unless given.
        patches: wing -> "module:function" that breaks it on purpose in its process.
        only: The one wing to start; None for both.
    """
    pythons, patches = pythons or {}, patches or {}
    if not isolated:
        return Pair({name: Here(name, precision, device, subject) for name in BACKENDS}, folder)
    path = folder / SUBJECT
    if not path.exists():
        subject.save(path)
    handles: dict[str, Process] = {}
    for name in BACKENDS if only is None else (only,):
        python = pythons.get(name, sys.executable)
        handles[name] = Process(name, precision, device, path, python, patches.get(name))
    try:
        for handle in handles.values():
            handle.begin()
    except BaseException:
        for handle in handles.values():
            handle.close()
        raise
    return Pair(handles, folder)
