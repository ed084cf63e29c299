"""The machine: what it is, and how much of it others used while something was measured."""

import os
import platform
import resource
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _table(path: str, separator: str = ":") -> dict[str, str]:
    """A file of "name: value" lines; empty where there is none (another system than Linux)."""
    if not Path(path).exists():
        return {}
    lines = (line.partition(separator) for line in Path(path).read_text().splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def describe() -> str:
    """The processor, its cores and the frameworks' versions; nothing that names the machine."""
    processor = _table("/proc/cpuinfo").get("model name") or platform.machine()
    versions = [f"{name} {metadata.version(name)}" for name in ("torch", "jax")]
    return ", ".join([processor, f"{CORES} cores", *versions])


def resident(what: str) -> int:
    """Bytes of this process in memory: "VmRSS" now, "VmHWM" at its highest; 0 if not known."""
    return int(_table("/proc/self/status").get(what, "0").split()[0]) * 1024


class Watch:
    """Counts, from its making, what other processes than ours take of the machine.

    Args:
        children: The ids of the processes of ours that run.
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
    def others(self) -> float:
        """The share of all cores that other processes used; 0 where it cannot be known."""
        theirs = _busy() - self.busy - (self._own() - self.own)
        return max(0.0, theirs / (CORES * self.seconds))


def _busy() -> float:
    """Seconds that the machine's cores have not been idle."""
    columns = _table("/proc/stat", " ").get("cpu", "0 " * 8).split()
    user, nice, system, _idle, _wait, *interrupts = map(int, columns[:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _process(pid: int) -> float:
    """Seconds of processor time of a running process."""
    path = Path(f"/proc/{pid}/stat")
    if not path.exists():
        return 0.0
    fields = path.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
