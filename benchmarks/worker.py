"""The process that measures a wing or a peer: `python -m benchmarks.worker WHO [CASE]`.

One JSON object a line in, one out: {"kind": ..., options} builds a case and answers its number,
{"run": number} its seconds, {"failed": why} stands in the place of either. Between requests it
waits for a line, so that the cores are for the others. With a case on the command line it answers
the bytes that two calls of it added to the process in which all is imported, and ends.
"""

import gc
import importlib
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, TextIO

from benchmarks import cases, machine, peers
from parity.spec import gist
from parity.wing import memory

LEAST = 0.05  # seconds that a measurement lasts; shorter calls are repeated


def build(who: str, kind: str, **options: Any) -> cases.Run:
    """The call of a case."""
    return getattr(peers if who in peers.PEERS else cases, kind)(who, **options)


def prepare(who: str) -> None:
    """Import what a wing or a peer imports, with the numerics of train.py for a wing."""
    wing = "torch" if who in peers.PEERS else who
    caps = importlib.import_module(f"{wing}_caps")
    caps.numerics.strict("float32")
    importlib.import_module(f"{wing}_caps.training")
    if wing == "jax":  # it starts its backend with the first array
        importlib.import_module("jax.numpy").zeros(3).block_until_ready()


def seconds(run: Callable[[], Any], calls: int = 1) -> float:
    """Of one call."""
    began = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - began) / calls


def serve(who: str, requests: TextIO, replies: TextIO) -> None:
    """Answer each line of `requests`, until there are no more."""
    held: list[tuple[cases.Run, int]] = []
    for line in requests:
        ask = json.loads(line)
        try:
            if "run" in ask:
                answer = {"seconds": seconds(*held[ask["run"]])}
            else:
                run = build(who, **ask)
                for _ in range(2):  # compiled, and its memory taken
                    run()
                held.append((run, math.ceil(LEAST / max(seconds(run), 1e-9))))
                answer = {"number": len(held) - 1}
        except Exception as error:
            traceback.print_exc()
            answer = {"failed": f"{type(error).__name__}: {gist(error)}"}
        replies.write(json.dumps(answer) + "\n")


def growth(who: str, case: dict[str, Any]) -> int:
    """Bytes that two calls of a case add to the process."""
    gc.collect()
    before = machine.resident("VmRSS")
    run = build(who, **case)
    for _ in range(2):
        run()
    return machine.resident("VmHWM") - before


def main(who: str, case: str = "") -> None:
    """Serve, or measure the memory of one case; what frameworks print goes to standard error."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    if not case:
        memory.keep(one_arena=who == "jax")
    prepare(who)
    if case:
        replies.write(json.dumps({"bytes": growth(who, json.loads(case))}) + "\n")
    else:
        serve(who, sys.stdin, replies)


if __name__ == "__main__":
    main(*sys.argv[1:])
