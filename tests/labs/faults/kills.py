"""kill -9 at random moments: while it starts, while it trains, inside the write of a checkpoint."""

import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from faults.process import EPOCHS, End, Process, command, difference, end, environment
from faults.row import Row
from parity.spec import TwincapsError

A_RUN = 8  # kills of one run, each followed by a resume
ANNOUNCED, DONE = "run folder", "test accuracy"
MOMENTS = ("training", "training", "a checkpoint", "a checkpoint", "a checkpoint")
WRITE = 0.03  # seconds that the write of a checkpoint takes, about

STARTING = "killed while it starts"
TRAINING = "killed in a training step or evaluation"
WRITING = "killed inside the write of a checkpoint"


@dataclass(frozen=True)
class Undisturbed:
    """What nobody killed: where it ended, and the seconds it took to start and to train."""

    path: Path
    end: End
    starting: float
    training: float


def undisturbed(backend: str, folder: Path) -> Undisturbed:
    """Train without any fault."""
    path = folder / "whole" / "run"
    with Process(command(backend, path), environment(folder)) as process:
        assert process.wait() == 0, process.output
        lines = [at for at, _ in process.lines]
        announced, done = process.said(ANNOUNCED), process.said(DONE)
    assert announced is not None, process.output
    assert done is not None, process.output
    # A machine that stood still for a while was not training.
    lines = [at for at in lines if announced <= at <= done]
    training = sum(min(b - a, 0.5) for a, b in itertools.pairwise(lines))
    return Undisturbed(path, end(path), announced - process.began, training)


def halfway(backend: str, folder: Path, whole: Undisturbed) -> Path:
    """A run that was killed when more than half of it was done."""
    path = folder / "halfway" / "run"
    with Process(command(backend, path), environment(folder)) as process:
        middle = f"epoch {2 * EPOCHS // 3}/"
        assert process.wait_for(lambda: middle in process.output), process.output
        assert process.kill()
    return path


def killed(
    backend: str, folder: Path, whole: Undisturbed, count: int, seed: int, say: Callable[..., None]
) -> list[Row]:
    """Kill at least `count` processes, several of each run; every run is brought to its end."""
    draw = random.Random(f"{seed}/{backend}")
    rows = {name: Row(backend, name) for name in (STARTING, TRAINING, WRITING)}
    number = 0
    while sum(row.tried for row in rows.values()) < count:
        number += 1
        path = folder / f"killed-{number}" / "run"
        hit = [
            place
            for n in range(A_RUN)
            if (place := _kill(backend, folder, path, whole, draw, n == number % A_RUN))
        ]
        for place in hit:
            rows[place].tried += 1
        fault = _finish(backend, folder, path, whole.end)
        say(f"{backend}: run {number} killed {len(hit)} times: {fault or 'the same end'}")
        for place in hit:
            if fault:
                rows[place].losses.append(f"{backend}, run {number}: {fault}")
            else:
                rows[place].resumed += 1
    return list(rows.values())


def _kill(
    backend: str, folder: Path, path: Path, whole: Undisturbed, draw: random.Random, early: bool
) -> str | None:
    """Go on with a run and kill it; where it was hit, None if it had ended before."""
    moment = "start" if early else draw.choice(MOMENTS)
    delay = draw.uniform(0, 1.3 * whole.training / A_RUN)
    with Process(command(backend, path), environment(folder)) as process:
        if moment == "start":
            until = process.began + draw.uniform(0.1, 1) * whole.starting
            process.wait_for(lambda: process.said(ANNOUNCED) or _past(until))
        elif process.wait_for(lambda: process.said(ANNOUNCED)):
            until = (process.said(ANNOUNCED) or 0.0) + delay
            process.wait_for(lambda: _past(until))
            if moment == "a checkpoint":
                process.wait_for(lambda: _unfinished(path))
                until = time.monotonic() + draw.uniform(0, WRITE)
                process.wait_for(lambda: _past(until))
        announced = process.said(ANNOUNCED)
        if not process.kill():
            return None
    if announced is None:
        return STARTING
    return WRITING if _unfinished(path) else TRAINING


def _past(moment: float) -> bool:
    return time.monotonic() >= moment


def _unfinished(path: Path) -> list[Path]:
    """What is there only inside the write of a checkpoint: new, replaced, half-deleted ones."""
    return list((path / "checkpoints").glob(".*-step-*"))


def _finish(backend: str, folder: Path, path: Path, whole: End) -> str:
    """Bring a run to its end; how it ended elsewhere, in words."""
    with Process(command(backend, path), environment(folder)) as process:
        code, output = process.wait(), process.output
    if code != 0:
        return f"exit code {code}: {output[-300:]}"
    if "warning:" in output:
        return f"said: {output[output.index('warning:') :][:300]}"
    try:
        return difference(end(path), whole)
    except TwincapsError as error:
        return str(error)
