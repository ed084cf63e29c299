"""The machine: what it is, and how much of it others used while something was measured."""

import os
import platform
import resource
import subprocess
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# what decides how fast products of matrices can be
VECTOR_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "sve", "sve2", "bf16")
PACKAGES = ("torch", "jax", "jaxlib", "flax", "optax", "numpy")


def _table(path: str, separator: str = ":") -> dict[str, str]:
    """A file of "name: value" lines; empty where there is none (another system than Linux)."""
    if not Path(path).exists():
        return {}
    lines = (line.partition(separator) for line in Path(path).read_text().splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def memory_available() -> float:
    """Bytes that can still be had without swapping; infinite where that is not known."""
    available = _table("/proc/meminfo").get("MemAvailable")
    return float(available.split()[0]) * 1024 if available else float("inf")


def _commit() -> str | None:
    root = Path(__file__).resolve().parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def describe() -> dict[str, Any]:
    """The processor, its cores, memory and versions; nothing that names the machine."""
    cpu = _table("/proc/cpuinfo")
    flags = (cpu.get("flags") or cpu.get("Features") or "").split()
    total = _table("/proc/meminfo").get("MemTotal")
    return {
        "processor": cpu.get("model name") or platform.machine(),
        "vectors": [flag for flag in VECTOR_FLAGS if flag in flags],
        "cores": CORES,
        "memory_gib": round(float(total.split()[0]) / 2**20, 1) if total else None,
        "system": platform.system(),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
        "commit": _commit(),
    }


class Watch:
    """Counts, from its making, the processor time of the whole machine and of our processes.

    children  the ids of the processes of ours that run
    seconds   since its making
    others    the share of all cores that other processes used, None where it cannot be known
    """

    def __init__(self, children: Callable[[], Iterable[int]]) -> None:
        self.children = children
        self.began, self.busy, self.own = time.perf_counter(), _busy(), self._own()

    def _own(self) -> float:
        who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        ended = sum(sum(resource.getrusage(each)[:2]) for each in who)
        return ended + sum(_process(pid) for pid in self.children())

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @property
    def others(self) -> float | None:
        if self.busy is None or (busy := _busy()) is None:
            return None
        theirs = busy - self.busy - (self._own() - self.own)
        return max(0.0, theirs / (CORES * self.seconds))


def _busy() -> float | None:
    """Seconds that the machine's cores have not been idle."""
    columns = _table("/proc/stat", " ").get("cpu")
    if columns is None:
        return None
    user, nice, system, _idle, _wait, *interrupts = map(int, columns.split()[:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _process(pid: int) -> float:
    """Seconds of processor time of a running process."""
    path = Path(f"/proc/{pid}/stat")
    if not path.exists():
        return 0.0
    fields = path.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
