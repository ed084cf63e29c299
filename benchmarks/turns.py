"""Cases measured in turns, A B C A B C ..., each wing and peer in a process of its own.

A time alone says little on a shared machine; the ratio of two times of the same round says more.
So ratios are taken round by round, and medians of them quoted, with the smallest and largest.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# A thread that waits must not spin: its turn is over. Nothing but the processor, nothing compiled
# before.
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "JAX_PLATFORMS": "cpu"}
PATIENCE = 300.0

Samples = list[float]  # one a round


@dataclass(frozen=True)
class Case:
    """A thing to measure: `kind` is a function of the cases of a wing or a peer."""

    who: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ask(self) -> dict[str, Any]:
        """As a worker takes it."""
        return {"kind": self.kind, **self.options}


class Worker:
    """A process that measures, driven line by line over pipes."""

    def __init__(self, who: str) -> None:
        # A session of its own: Ctrl-C is for the parent, which ends its workers.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", who],
            cwd=ROOT, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer, {"failed": why} if the process died."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        return json.loads(answer) if answer else {"failed": f"ended: {self.process.wait()}"}


class Workers:
    """The processes of one group of cases, started when first asked, ended with the block."""

    def __init__(self) -> None:
        self.of: dict[str, Worker] = {}

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.of.values():
            worker.process.kill()
            worker.process.communicate()
        self.of.clear()

    def ask(self, who: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of the process of a wing or a peer."""
        return self.of.setdefault(who, self.of.get(who) or Worker(who)).ask(request)

    @property
    def pids(self) -> list[int]:
        return [worker.process.pid for worker in self.of.values()]


def times(workers: Workers, cases: Mapping[str, Case], rounds: int) -> dict[str, Samples | str]:
    """The seconds of each case, or why it has none: built and warmed, then measured in turns."""
    found: dict[str, Samples | str] = {}
    numbers: dict[str, int] = {}
    for name, case in cases.items():
        answer = workers.ask(case.who, case.ask)
        found[name] = answer.get("failed") or []
        numbers[name] = answer.get("number", -1)
    for _ in range(rounds):
        for name, samples in found.items():
            if not isinstance(samples, str):
                answer = workers.ask(cases[name].who, {"run": numbers[name]})
                samples.append(answer["seconds"])
    return found


def growths(cases: Mapping[str, Case]) -> dict[str, Samples | str]:
    """The MiB that each case adds to a process of its own."""
    found: dict[str, Samples | str] = {}
    for name, case in cases.items():
        command = [sys.executable, "-m", "benchmarks.worker", case.who, json.dumps(case.ask)]
        run = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        found[name] = f"ended: {run.returncode}"
        if run.returncode == 0:
            found[name] = [json.loads(run.stdout)["bytes"] / 2**20]
    return found


def starts(commands: Mapping[str, list[str]], rounds: int) -> dict[str, Samples | str]:
    """Seconds from the start of Python to its end, or to the first step of a training."""
    found: dict[str, Samples | str] = {name: [] for name in commands}
    for turn in range(rounds + 1):  # the first fills the caches of files and of compilations
        for name, command in commands.items():
            with tempfile.TemporaryDirectory() as folder:
                took = _start([part.format(folder=folder) for part in command], Path(folder))
            if turn:
                found[name].append(took)  # type: ignore[union-attr]
    return found


def _start(command: list[str], folder: Path) -> float:
    """Until the process ends or has written a line of metrics."""
    began, metrics = time.perf_counter(), folder / "run" / "metrics.jsonl"
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL)
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        if time.perf_counter() > began + PATIENCE:
            break
        time.sleep(0.002)
    took = time.perf_counter() - began
    process.kill()
    process.communicate()
    return took


def spread(samples: Samples) -> tuple[float, float, float]:
    """The median, the smallest and the largest."""
    return statistics.median(samples), min(samples), max(samples)


def ratios(above: Samples, below: Samples) -> Samples:
    """`above` / `below`, round by round."""
    return [a / b for a, b in zip(above, below, strict=True)]
