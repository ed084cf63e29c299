"""Section "startup": imports, `train.py --help`, and `train.py` to the end of its first step."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.report import Table, cell, timings
from benchmarks.rounds import Bench, Timing, interleave
from benchmarks.workers import ROOT

PYTHON = {
    "import nothing": ["-c", "pass"],
    "import parity.cli": ["-c", "import parity.cli"],
    "import torch": ["-c", "import torch"],
    "import torch_caps": ["-c", "import torch_caps"],
    "import jax": ["-c", "import jax"],
    "import jax_caps": ["-c", "import jax_caps"],
    "train.py --help": ["train.py", "--help"],
}
ASKED = {
    "train.py --help": "under 0.5",
    "first step, torch": "under 6",
    "first step, jax": "under 6",
}
PATIENCE = 300.0


def whole(arguments: list[str]) -> dict[str, float]:
    """Seconds of a Python process, from its start to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return {"seconds": time.perf_counter() - began}


def first_step(backend: str, preset: str) -> dict[str, float]:
    """Seconds from the start of train.py to the first line of its metrics."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        arguments = ["train.py", "--backend", backend, "--preset", preset, "--out", str(out)]
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        try:
            return {"seconds": _until_written(out / "metrics.jsonl", process) - began}
        finally:
            process.kill()
            process.wait()


def _until_written(path: Path, process: subprocess.Popen[bytes]) -> float:
    """The moment at which the file is no longer empty."""
    end = time.perf_counter() + PATIENCE
    while not (path.exists() and path.stat().st_size):
        if process.poll() is not None or time.perf_counter() > end:
            raise RuntimeError(f"{process.args} wrote no step, code {process.poll()}")
        time.sleep(0.002)
    return time.perf_counter()


def measure(bench: Bench) -> dict[str, Any]:
    runs: dict[str, Callable[[], dict[str, float]]] = {
        name: partial(whole, arguments) for name, arguments in PYTHON.items()
    }
    for backend in ("torch", "jax"):
        runs[f"first step, {backend}"] = partial(first_step, backend, bench.scale.preset)
    # The first of each fills the caches of files and of compilations.
    times = {name: Timing(first=run()["seconds"]) for name, run in runs.items()}
    interleave(runs, times, bench.rounds)
    return {"preset": bench.scale.preset, "groups": [{"timings": times}]}


def tables(record: dict[str, Any]) -> list[Table]:
    rows = [
        [name, cell(each), f"{each.first or 0:.2f}", ASKED.get(name, "")]
        for name, each in timings(record["groups"][0]).items()
    ]
    header = ["", "seconds, warm", "the first time", "asked for"]
    notes = [
        f"Each in a process of its own, from its start. The first step is of {record['preset']}, "
        "until its line of metrics is written."
    ]
    return [Table("Start-up", header, rows, notes)]
