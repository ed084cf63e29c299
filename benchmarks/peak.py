"""The process that measures memory: `python -m benchmarks.peak WING KIND JOB`, one layer, once.

It warms itself on a small layer of the same kind, so that what the framework loads at its first
use is not counted, then lets the layer of the job run and reads how high its memory rose.
"""

import contextlib
import gc
import importlib
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

SMALL = 72  # input capsules to warm on


def _status(name: str) -> int | None:
    """Bytes of a line of /proc/self/status; None where the system has none."""
    path = Path("/proc/self/status")
    if not path.exists():
        return None
    lines = dict(line.split(":", 1) for line in path.read_text().splitlines())
    return int(lines[name].split()[0]) * 1024


def _highest() -> int:
    """The highest resident memory of this process, in bytes, since the last `_forget`."""
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _present() -> int:
    return _status("VmRSS") or _highest()


def _forget() -> None:
    """Reset the highest memory, where Linux lets us; else the growth is too small."""
    gc.collect()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _expendable() -> None:
    """Should memory run out after all, this process goes first."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def measure(wing: str, kind: str, job: dict[str, Any]) -> dict[str, Any]:
    """Bytes that the layer added to a warm process: all of them, and those beyond its inputs."""
    importlib.import_module(f"{wing}_caps.numerics").strict("float32")
    cases = importlib.import_module(f"benchmarks.{wing}_cases")
    build = getattr(cases, kind)
    more = {"backward": True} if kind == "digit" else {}
    build(**job | {"inputs": SMALL}, **more)()
    _forget()
    warm = _present()
    run = build(**job, **more)
    _forget()
    held = _present()
    run()
    highest = _highest()
    temporaries = cases.temporaries(**job) if kind == "digit" else None
    return {"growth": highest - warm, "beyond": highest - held, "temporaries": temporaries}


def main(wing: str, kind: str, job: str) -> None:
    """Print what was measured as JSON, and nothing else."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _expendable()
    print(json.dumps(measure(wing, kind, json.loads(job))), file=replies, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
