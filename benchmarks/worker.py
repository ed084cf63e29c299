"""The process that holds one wing: builds what it is asked for, runs it, tells how long it took.

`python -m benchmarks.worker WING`; one JSON object a line in, one out. Between requests it waits
for a line, so that its threads leave the cores to the other wing.
"""

import gc
import importlib
import json
import math
import os
import sys
import time
import traceback
from typing import Any, TextIO

from benchmarks.contract import Run
from parity.spec import gist
from parity.wing import memory


def main(wing: str) -> None:
    """Serve requests until the pipe closes."""
    # What frameworks print must not reach the pipe of the replies.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    serve(wing, sys.stdin, replies)


def serve(wing: str, requests: TextIO, replies: TextIO) -> None:
    """Answer each line of `requests` with {"ok": ...} or {"failed": why}."""
    memory.keep()
    importlib.import_module(f"{wing}_caps.numerics").strict("float32")  # as train.py does
    shelf = Shelf(importlib.import_module(f"benchmarks.{wing}_cases"))
    for line in requests:
        ask = json.loads(line)
        try:
            answer = {"ok": getattr(shelf, ask.pop("do"))(**ask)}
        except Exception as error:
            traceback.print_exc()
            answer = {"failed": f"{type(error).__name__}: {gist(error)}"}
        replies.write(json.dumps(answer) + "\n")


class Shelf:
    """The cases that are held, each by the number it got when it was built."""

    def __init__(self, cases: Any) -> None:
        self.cases = cases
        self.held: list[tuple[Run, int]] = []

    def build(self, kind: str, options: dict[str, Any], least: float) -> dict[str, float]:
        """Build and warm a case: its number, and the seconds of building it and its first call.

        It is then called as often in one measurement as fills `least` seconds.
        """
        began = time.perf_counter()
        run: Run = getattr(self.cases, kind)(**options)
        run()
        first = time.perf_counter() - began
        run()
        began = time.perf_counter()
        run()
        once = time.perf_counter() - began
        self.held.append((run, max(1, math.ceil(least / max(once, 1e-9)))))
        return {"number": len(self.held) - 1, "first": first}

    def run(self, number: int) -> dict[str, float]:
        """Measure a case: the seconds of one call, and what else it tells."""
        run, calls = self.held[number]
        more: dict[str, float] | None = None
        began = time.perf_counter()
        for _ in range(calls):
            more = run()
        return {"seconds": (time.perf_counter() - began) / calls, **(more or {})}

    def clear(self) -> None:
        """Forget every case, and what the framework compiled for it."""
        self.held.clear()
        self.cases.forget()
        gc.collect()


if __name__ == "__main__":
    main(sys.argv[1])
