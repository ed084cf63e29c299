"""The round robin: A B C A B C ..., so that a slow moment of the machine meets all of them.

A time alone says little on a shared machine; the ratio of two times of the same round says more.
So ratios are taken round by round, and medians of them quoted, with the smallest and largest.
"""

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmarks.scale import Scale
from benchmarks.workers import Pool


class Spread(NamedTuple):
    """The median of some rounds, and the smallest and largest of them."""

    median: float
    low: float
    high: float


def spread(samples: Sequence[float]) -> Spread:
    return Spread(statistics.median(samples), min(samples), max(samples))


@dataclass(frozen=True)
class Case:
    """A thing to measure: `kind` is a function of the wing's cases, `options` its arguments."""

    wing: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Timing:
    """What the rounds measured of a case.

    samples  seconds a call, one a round
    first    seconds of building it and its first call: its compilation, mostly
    more     other numbers it told, by name, one a round
    missing  why there is nothing, `failed` whether that is a fault
    """

    samples: list[float] = field(default_factory=list)
    first: float | None = None
    more: dict[str, list[float]] = field(default_factory=dict)
    missing: str | None = None
    failed: bool = False

    def add(self, told: Mapping[str, float]) -> None:
        """The numbers of one more round."""
        for name, number in told.items():
            number = float(f"{number:.6g}")
            if name == "seconds":
                self.samples.append(number)
            else:
                self.more.setdefault(name, []).append(number)


Timings = dict[str, Timing]


@dataclass
class Bench:
    """What every section needs: the workers, the sizes, the rounds, and a place to tell."""

    pool: Pool
    scale: Scale
    rounds: int
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)

    def measure(self, cases: Mapping[str, Case]) -> Timings:
        """Build and warm every case, then measure them in turn, and forget them."""
        timings = {name: Timing() for name in cases}
        runs: dict[str, Callable[[], Mapping[str, float]]] = {}
        for name, case in cases.items():
            answer = self.pool[case.wing].ask(
                "build", kind=case.kind, options=dict(case.options), least=self.scale.least
            )
            if self._answered(timings[name], answer):
                timings[name].first = answer["ok"]["first"]
                runs[name] = self._run(case.wing, answer["ok"]["number"], timings[name])
        interleave(runs, timings, self.rounds)
        for wing in {case.wing for case in cases.values()}:
            self.pool[wing].ask("clear")
        return timings

    def _run(self, wing: str, number: int, timing: Timing) -> Callable[[], Mapping[str, float]]:
        def run() -> Mapping[str, float]:
            answer = self.pool[wing].ask("run", number=number)
            return answer["ok"] if self._answered(timing, answer) else {}

        return run

    def _answered(self, timing: Timing, answer: Mapping[str, Any]) -> bool:
        timing.failed = timing.failed or "failed" in answer
        timing.missing = answer.get("failed") or timing.missing
        return "ok" in answer


def interleave(
    runs: Mapping[str, Callable[[], Mapping[str, float]]], timings: Timings, rounds: int
) -> None:
    """Run all of `runs` once a round, in order, and add what each tells to its timing."""
    for _ in range(rounds):
        for name, run in runs.items():
            if timings[name].missing is None:
                timings[name].add(run())


def seconds(timing: Timing) -> Spread | None:
    """The seconds of a call, None where there are none."""
    return None if timing.missing or not timing.samples else spread(timing.samples)


def ratio(above: Timing, below: Timing) -> Spread | None:
    """`above` / `below`, round by round; None where one of them was not measured."""
    if seconds(above) is None or seconds(below) is None:
        return None
    return spread([a / b for a, b in zip(above.samples, below.samples, strict=True)])
