"""The parent's side: one process a wing, started when first asked, idle while the other works."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WINGS = ("torch", "jax")


class WorkerError(RuntimeError):
    """A worker died, or could not do what no worker may fail at."""


def command(module: str, *arguments: str) -> list[str]:
    """The command of a module of ours in a process of its own."""
    return [sys.executable, "-m", f"benchmarks.{module}", *arguments]


def environment(folder: str) -> dict[str, str]:
    """Of every process that measures: nothing compiled before, nothing but the processor."""
    empty = str(Path(folder) / "inductor")
    return {**os.environ, "TORCHINDUCTOR_CACHE_DIR": empty, "JAX_PLATFORMS": "cpu"}


class Worker:
    """A process that measures with one wing, driven line by line over pipes."""

    def __init__(self, wing: str, folder: str) -> None:
        self.wing = wing
        # A session of its own: Ctrl-C is for the parent, which ends its workers.
        self.process = subprocess.Popen(
            command("worker", wing),
            cwd=ROOT,
            env=environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """{"ok": result} or {"failed": why}; raises WorkerError if it died."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            code = self.process.wait()
            raise WorkerError(
                f"the {self.wing} worker ended with code {code} at {do} {arguments}"
                + ("; the machine may be out of memory" if code == -9 else "")
            )
        return json.loads(answer)

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.communicate()


class Pool:
    """The workers of a run of the benchmarks, one a wing."""

    def __init__(self) -> None:
        self.workers: dict[str, Worker] = {}
        self.folder = tempfile.TemporaryDirectory(prefix="benchmarks-")

    def __getitem__(self, wing: str) -> Worker:
        if wing not in self.workers:
            self.workers[wing] = Worker(wing, self.folder.name)
        return self.workers[wing]

    @property
    def pids(self) -> list[int]:
        return [worker.process.pid for worker in self.workers.values()]

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()
        self.workers.clear()
        self.folder.cleanup()


@contextlib.contextmanager
def pool() -> Iterator[Pool]:
    """Workers that end with the block."""
    workers = Pool()
    try:
        yield workers
    finally:
        workers.close()
