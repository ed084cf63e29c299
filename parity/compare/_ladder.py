"""The ladder: every rung in each precision, each difference explained."""

import contextlib
import dataclasses
import functools
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from parity.compare.comparison import SKIPPED, Comparison, Row
from parity.compare.rungs import RUNGS, single_step, trajectories
from parity.compare.rungs.modes import in_modes, on_gpu
from parity.compare.rungs.single_step import BACKWARD, EVALUATION, FORWARD
from parity.compare.subject import Subject
from parity.compare.wings import SUBJECT, pair
from parity.spec import TwincapsError, to_dict
from parity.traces import oracle
from parity.traces.show import DIFFERS, HOLDS

T = TypeVar("T")

PRECISIONS = ("float64", "float32")
MODES = ("compiled", "eager", "lean", "fourier", "exported")
NVIDIA = (Path("/proc/driver/nvidia"), Path("/dev/nvidiactl"))

# rung -> the function that compares there; rung 8 needs a second comparison, on a GPU
FUNCTIONS = {
    0: single_step.round_trip,
    1: single_step.pure_functions,
    2: single_step.forward,
    3: single_step.backward,
    4: single_step.step,
    5: trajectories.trajectory,
    6: trajectories.resume,
    7: in_modes,
}


@dataclass(frozen=True)
class Report:
    """What a check found: the rows, and the wings' own reports by "wing precision"."""

    subject: Subject
    rows: list[Row]
    environment: dict[str, Any]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether no rung that was compared fails."""
        return not any(row.fails for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; an infinite difference is null."""
        rows = [dataclasses.asdict(row) for row in self.rows]
        for row in rows:
            row["difference"] = None if row["difference"] == float("inf") else row["difference"]
        return {
            "source": self.subject.source,
            "spec": to_dict(self.subject.spec),
            "seed": self.subject.seed,
            "batch": self.subject.batch,
            "holds": self.holds,
            "rows": rows,
            "environment": self.environment,
            "seconds": round(self.seconds, 1),
        }


def ladder(
    subject: Subject,
    *,
    rungs: Iterable[int] = tuple(rung.number for rung in RUNGS),
    precisions: Iterable[str] = PRECISIONS,
    modes: Iterable[str] = MODES,
    keep_going: bool = False,
    isolated: bool = True,
    pythons: Mapping[str, str] | None = None,
    patches: Mapping[str, str] | None = None,
    gpu: str | None = "cuda",
) -> Report:
    """Compares both wings rung by rung, in each precision.

    Args:
        subject: The network and data that both wings are given.
        rungs: Numbers from 0 to 8.
        precisions: float64 or float32, or both.
        modes: Of rung 7: those of `MODES`.
        keep_going: Whether to go on above a rung that fails, where no result is reliable.
        isolated: Whether each wing has a process of its own; otherwise both are in this one, where
            JAX's 64-bit types are on from the first comparison in float64.
        pythons: wing -> interpreter.
        patches: wing -> "module:function" that breaks it on purpose (see `worker.py`).
        gpu: The device of rung 8; None to leave it out.

    Raises:
        TwincapsError: Where a wing cannot be loaded, or a rung is unknown.
    """
    began, rungs = time.monotonic(), sorted(set(rungs))
    if unknown := set(rungs) - {rung.number for rung in RUNGS}:
        raise TwincapsError(f"rungs {sorted(unknown)} are unknown; expected 0 to {len(RUNGS) - 1}")
    how = {"isolated": isolated, "pythons": pythons, "patches": patches}
    with _Comparisons(subject, tuple(modes), gpu, how) as comparisons:
        tables = comparisons.together(
            lambda precision: list(_rows(comparisons, precision, rungs, keep_going)), precisions
        )
        rows = [_explained(comparisons, row) for table in tables for row in table]
        environment = dict(sorted(comparisons.environment.items()))
    return Report(subject, rows, environment, time.monotonic() - began)


class _Comparisons:
    """A Comparison for each precision and device, made at its first use."""

    def __init__(
        self, subject: Subject, modes: tuple[str, ...], gpu: str | None, how: Mapping[str, Any]
    ):
        self.subject, self.modes, self.gpu, self.how = subject, modes, gpu, how
        self.environment: dict[str, Any] = {}
        self._comparisons: dict[tuple[str, str], Comparison] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "_Comparisons":
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, precision: str, device: str = "cpu") -> Comparison:
        if (precision, device) not in self._comparisons:
            wings = self._stack.enter_context(
                pair(self.subject, precision, self.folder, device=device, **self.how)
            )
            self._comparisons[precision, device] = Comparison(
                self.subject, wings, self.folder, self.modes
            )
            for wing, answer in wings.ask("report").items():
                self.environment[f"{wing} {precision} {device}"] = answer.facts["report"]
        return self._comparisons[precision, device]

    def rows(self, precision: str, rung: int) -> list[Row]:
        """The rows of a rung."""
        comparison = self(precision)
        if rung in FUNCTIONS:
            return comparison.once(rung, FUNCTIONS[rung])
        if why := self._no_gpu(precision):
            return [Row(rung, precision, RUNGS[rung].what, verdict=SKIPPED, why=why)]
        return self(precision, str(self.gpu)).once(rung, functools.partial(on_gpu, comparison))

    def _no_gpu(self, precision: str) -> str:
        """Why rung 8 cannot be compared, empty if it can."""
        if self.gpu is None or (self.gpu == "cuda" and not any(map(Path.exists, NVIDIA))):
            return "no NVIDIA GPU here"
        self(precision, self.gpu)
        seen = {name: report["device"] for name, report in self.environment.items()}
        blind = [name for name in seen if name.endswith("cuda") and seen[name].endswith(" cpu")]
        return f"no CUDA for {', '.join(blind)}" if blind else ""

    def together(self, work: Callable[[str], T], precisions: Iterable[str]) -> list[T]:
        """`work` on each precision: at the same time, unless this process does it all.

        A wing waits for the other at each rung, and two of four processes keep two cores busy.
        """
        if not self.how["isolated"]:
            return [work(precision) for precision in precisions]
        self.subject.save(self.folder / SUBJECT)
        with ThreadPoolExecutor() as pool:
            return list(pool.map(work, precisions))


def _rows(
    comparisons: _Comparisons, precision: str, rungs: list[int], keep_going: bool
) -> Iterator[Row]:
    broken: int | None = None
    for number in rungs:
        if broken is not None and not keep_going:
            why = f"not compared: rung {broken} does not hold"
            yield Row(number, precision, RUNGS[number].what, verdict=SKIPPED, why=why)
            continue
        rows = comparisons.rows(precision, number)
        yield from rows
        if any(row.fails for row in rows):
            broken = number


def _explained(comparisons: _Comparisons, row: Row) -> Row:
    """Adds to a row that differs its kind: rounding, or semantic, and whose."""
    if row.verdict != DIFFERS:
        return row
    if row.what.removesuffix(EVALUATION) in (FORWARD, BACKWARD):
        comparison = comparisons("float64")
        evaluated = row.what.endswith(EVALUATION)
        torch, jax = (comparison.evaluated if evaluated else comparison.traces).values()
        verdict = oracle.verdict(torch, jax, RUNGS[2].float64, RUNGS[3].float64)
        return dataclasses.replace(row, why=str(verdict))
    if row.precision == "float64":
        return dataclasses.replace(row, why="semantic: this is float64")
    rows = comparisons.rows("float64", row.rung)
    # Rungs 5 and 6 ask other things of float64: then all of them.
    same = [other for other in rows if other.what == row.what] or rows
    holds = all(other.verdict == HOLDS for other in same)
    why = "rounding: in float64 it holds" if holds else "semantic: in float64 it does not hold"
    return dataclasses.replace(row, why=why)
