"""Freed memory is kept: seen in the page faults of a process of its own."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, threading
import numpy as np
from parity.wing import memory

told = memory.keep(one_arena="one-arena" in sys.argv) if "keep" in sys.argv else None

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    for _ in range(3):
        [np.ones(2**22) for _ in range(2)]
    before = faults()
    for _ in range(5):
        # 64 MiB, more than a thread's own heap holds: at least 32 pages, however large they are.
        [np.ones(2**22) for _ in range(2)]
    print(told, faults() - before)

if "thread" in sys.argv:
    threading.Thread(target=work).start()
else:
    work()
"""


def run(*argv: str, **environment: str) -> list[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, *argv],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc is what is told")
@pytest.mark.parametrize("where", [(), ("thread", "one-arena")], ids=["main", "thread"])
def test_memory_that_was_freed_is_not_asked_for_again(where):
    assert int(run(*where)[1]) >= 5 * 32  # as it is without
    told, faults = run("keep", *where)
    assert told == "True"
    assert int(faults) < 32


@pytest.mark.parametrize(
    "chosen",
    [{"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=7"}],
    ids=lambda chosen: next(iter(chosen)),
)
def test_what_the_user_has_chosen_stays(chosen):
    assert run("keep", **chosen)[0] == "False"


def test_elsewhere_nothing_is_done(monkeypatch):
    from parity.wing import memory

    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.keep() is False
