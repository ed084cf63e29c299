"""A training process by its command line, watched from outside, and what a run ends with."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wings import ROOT

from parity.runs import Run, checkpoints
from parity.spec import to_dict

DOOR = ROOT / "tests" / "door.py"
EPOCHS = 40
PAUSE = 0.0005  # counted, not measured: a machine that stands still makes nobody late
LIMIT = 120.0  # seconds of such pauses; beyond them a process counts as hung


def command(backend: str, path: Path) -> list[str]:
    """What a user types, whether the run is there already or not."""
    words = f"train --preset tiny --dataset tiny-stripes --backend {backend} --epochs {EPOCHS}"
    return [sys.executable, str(DOOR), *words.split(), "--resume", "auto", "--out", str(path)]


def environment(folder: Path) -> dict[str, str]:
    """Of a training process: nothing outside `folder` is written, one thread, no GPU."""
    own = {
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    return {**os.environ, **own, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}


class Process:
    """A training process and the lines it has printed so far, each with its time."""

    def __init__(
        self,
        argv: list[str],
        environment: Mapping[str, str],
        before: Callable[[], None] | None = None,
    ) -> None:
        self.began = time.monotonic()
        self._process = subprocess.Popen(
            argv,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=before,
        )
        self.lines: list[tuple[float, str]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append((time.monotonic(), line))

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def output(self) -> str:
        return "".join(line for _, line in self.lines)

    def said(self, start: str) -> float | None:
        """When a line that begins so was printed, None if it was not."""
        return next((at for at, line in self.lines if line.startswith(start)), None)

    def wait_for(self, condition: Callable[[], Any], pause: float = PAUSE) -> bool:
        """Wait until it holds; False where the process ended before."""
        left = LIMIT
        while not condition():
            if not self.running or left < 0:
                return bool(condition())
            time.sleep(pause)
            left -= pause
        return True

    def wait(self) -> int:
        """The exit code; minus SIGKILL where the process had to be ended."""
        if not self.wait_for(lambda: not self.running, pause=100 * PAUSE):
            self.kill()
        self._reader.join(10)
        return self._process.returncode

    def kill(self) -> bool:
        """kill -9, this process alone; whether it was still running."""
        if not self.running:
            return False
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._reader.join(10)
        return self._process.returncode == -signal.SIGKILL


def run(
    argv: list[str], environment: Mapping[str, str], before: Callable[[], None] | None = None
) -> tuple[int, str]:
    """Exit code and output of a process that nobody disturbs."""
    with Process(argv, environment, before) as process:
        return process.wait(), process.output


@dataclass(frozen=True)
class End:
    """All that a run ends with, apart from times.

    kept     the bytes of weights and optimiser, and the state, of each checkpoint that is kept
    metrics  the lines of metrics.jsonl
    beside   names in the folder of the run that are not those of a run
    """

    kept: dict[str, tuple[bytes, bytes, str]]
    metrics: list[dict[str, Any]]
    beside: list[str]


def end(path: Path) -> End:
    """What is there; raises a TwincapsError where it is not whole."""
    beside = ("weights.safetensors", "optimizer.safetensors")
    with Run.open(path, read_only=True) as opened:
        lines = opened.metrics()
        kept = {}
        for each in checkpoints.listed(path / "checkpoints"):
            state = to_dict(checkpoints.read(each, opened.spec).state)
            for name in ("metrics_bytes", "metrics_sha256"):  # they cover times
                del state[name]
            one, other = ((each / name).read_bytes() for name in beside)
            kept[each.name] = (one, other, json.dumps(state, sort_keys=True))
    for line in lines:
        del line["images_per_second"]
    known = ("spec.json", "training.json", "metrics.jsonl", "checkpoints", "figures", ".lock")
    listed = [each.name for each in path.iterdir() if not each.name.startswith("events")]
    inside = [each.name for each in (path / "checkpoints").iterdir()]
    return End(
        kept,
        lines,
        sorted({*listed} - {*known}) + [name for name in inside if not name.startswith("step-")],
    )


def difference(found: End, whole: End) -> str:
    """In words, how a run ended elsewhere than the undisturbed one; "" where it did not."""
    if found.kept.keys() != whole.kept.keys():
        return f"has checkpoints {sorted(found.kept)}, expected {sorted(whole.kept)}"
    for name, parts in whole.kept.items():
        for part, ours, theirs in zip(
            ("weights", "optimizer", "state"), found.kept[name], parts, strict=True
        ):
            if ours != theirs:
                return f"{name}: another {part}"
    if found.metrics != whole.metrics:
        return "other metrics"
    return f"left {found.beside}" if found.beside else ""
