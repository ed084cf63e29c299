"""Kills a training run at every place where it touches the disk, and looks what is left of it.

python tests/crash.py FOLDER [STRIDE] [FIRST]: forks a child that trains the fake Trainer and is
killed, as by kill -9, before its n-th operation on the file system, for every STRIDE-th n; then
another that must end where the uninterrupted run does. Then the same with files that may not grow
past a limit, as on a full disk. Prints how many of each there were; a lost run ends it with 1.
"""

import contextlib
import dataclasses
import json
import os
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import fakes

from parity import loop, runs
from parity.runs.disk import RunError
from parity.spec import RunOptions

# Two steps an epoch with a checkpoint after each: eight, so that old ones are deleted too.
TRAINING = dataclasses.replace(fakes.TRAINING, epochs=4, batch_size=11)
TOUCHING = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}
WRITING = os.O_WRONLY | os.O_RDWR


def train(path: Path) -> None:
    """What `--resume auto` does."""
    if runs.holds_run(path):
        run = runs.Run.open(path)
    else:
        run = runs.Run.create(path, fakes.SPEC, TRAINING, RunOptions(checkpoint_every=1))
    with run:
        loop.train(fakes.Trainer(training=TRAINING), fakes.dataset(), run, progress=False)


def end(path: Path) -> tuple:
    """All that a run ends with, apart from times."""
    with runs.Run.open(path) as run:
        found, lines = run.newest(), run.metrics()
    assert found is not None
    for line in lines:
        del line["images_per_second"]
    last = [(found.path / f"{name}.safetensors").read_bytes() for name in ("weights", "optimizer")]
    beside = [each.name for each in path.parent.iterdir()]
    kept = {each.name for each in (path / "checkpoints").iterdir()}
    assert {f"step-{step:08d}" for step in (4, 6, 7, 8)} <= kept, kept  # 4 is the best
    assert all(name.startswith("step-") for name in kept), kept
    return found.state.step, *last, json.dumps(lines), beside


def forked(work: Callable[[], None]) -> int:
    """The exit status of a child process that does `work`; minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except RunError:
            os._exit(2)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(path: Path, place: int) -> None:
    """Train, and be killed before the `place`-th operation on files below the run's parent."""
    count = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal count
        if event in TOUCHING or (event == "open" and arguments[2] & WRITING):
            count += 1
            if count == place:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    train(path)


def full(path: Path, limit: int) -> None:
    """Train where no file may grow past `limit` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    train(path)


def faults(folder: Path, stride: int, first: int) -> dict[str, int]:
    """Try them all; returns how many there were of each."""
    warnings.simplefilter("error")  # nothing here alters a file, so nothing may be found altered
    assert forked(lambda: train(folder / "whole" / "run")) == 0
    whole, count = end(folder / "whole" / "run"), {"killed": 0, "full": 0}
    for kind, fault, places in (
        ("killed", killed, range(first, 10**6, stride)),
        ("full", full, range(16 * first, 10**6, 37 * stride)),
    ):
        for place in places:
            path = folder / f"{kind}-{place}" / "run"
            status = forked(lambda fault=fault, path=path, place=place: fault(path, place))
            if status == 0:
                break
            assert status == (-signal.SIGKILL if kind == "killed" else 2), (kind, place, status)
            assert forked(lambda path=path: train(path)) == 0, f"lost: {kind} at {place}"
            assert end(path) == whole, f"ended elsewhere: {kind} at {place}"
            count[kind] += 1
    return count


if __name__ == "__main__":
    numbers = [int(x) for x in sys.argv[2:]] + [1, 1][len(sys.argv) - 2 :]
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(faults(Path(sys.argv[1]), *numbers)))
