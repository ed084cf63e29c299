"""The rungs: each is a function that asks both wings the same and returns rows of differences."""

import dataclasses
import functools
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parity.compare import functions, oracle
from parity.compare.difference import INFINITE, difference, differences, worst
from parity.compare.first import first_beyond, first_difference
from parity.compare.rungs import (
    ADAM_STEPS,
    GPU_STEPS,
    RESUMED_STEPS,
    RUNGS,
    SGD_STEPS,
    SHARE_OF_LARGEST,
)
from parity.compare.subject import STEP, Subject
from parity.compare.traces import Trace
from parity.compare.wings import Pair, WingError
from parity.spec import BACKENDS, OPTIMIZERS
from parity.weights import Arrays, table

FORWARD, BACKWARD = "forward, torch against jax", "gradients, torch against jax"
HOLDS, DIFFERS, RAISES, SKIPPED = "holds", "differs", "raises", "skipped"


@dataclass(frozen=True)
class Row:
    """One comparison: the tensor that differs most, and what became of it.

    first  the first tensor beyond the tolerance, in the order of execution
    why    what kind of difference it is, or why there was nothing to compare
    """

    rung: int
    precision: str
    what: str
    worst: str = ""
    difference: float = 0.0
    tolerance: float = 0.0
    verdict: str = HOLDS
    first: str = ""
    why: str = ""

    @property
    def fails(self) -> bool:
        """Whether the ladder breaks here."""
        return self.verdict in (DIFFERS, RAISES)


def raised(rung: int, precision: str, error: Exception) -> Row:
    """The row of a rung where a wing raised something."""
    row = Row(rung, precision, RUNGS[rung].what, difference=INFINITE)
    return dataclasses.replace(row, verdict=RAISES, why=str(error))


class Climb:
    """The ladder in one precision on one device: two wings, a subject, and what they said so far.

    folder  where checkpoints are exchanged
    modes   the modes of rung 7 to look at
    """

    def __init__(self, subject: Subject, pair: Pair, folder: Path, modes: Iterable[str]):
        self.subject, self.pair, self.folder = subject, pair, folder
        self.precision = next(iter(pair.handles.values())).precision
        self.modes = tuple(modes)
        self._rows: dict[int, list[Row]] = {}

    def rows(self, rung: int) -> list[Row]:
        """The rows of a rung, climbed once."""
        if rung not in self._rows:
            try:
                self._rows[rung] = CLIMBS[rung](self)
            except WingError as error:
                self._rows[rung] = [raised(rung, self.precision, error)]
        return self._rows[rung]

    def row(self, rung: int, what: str, found: Mapping[str, float], why: str = "") -> Row:
        """The row of these differences, which stand in the order of execution."""
        tolerance = RUNGS[rung].tolerance(self.precision)
        name, apart = worst(found)
        first = first_beyond(found, tolerance)
        verdict = HOLDS if first is None else DIFFERS
        row = Row(rung, self.precision, what, name, apart, tolerance, verdict)
        return row if first is None else dataclasses.replace(row, first=first, why=why)

    @functools.cached_property
    def traces(self) -> dict[str, Trace]:
        """The trace of each wing, as it usually runs."""
        return self.pair.trace()

    @functools.cached_property
    def expected(self) -> Arrays:
        """The oracle's forward pass, and the parameters it was given."""
        given = self.subject.cast(self.precision).items()
        seen = oracle.values(self.traces["torch"])
        return {**seen, **{f"parameter/{name}": array for name, array in given}}

    @functools.cached_property
    def double_gradients(self) -> Arrays:
        """The gradients in float64, which decide what rung 4 looks at."""
        if self.precision == "float64":
            return self.traces["torch"].gradients
        return self.pair.trace_each({"torch": {"precision": "float64"}})["torch"].gradients


def _round_trip(climb: Climb) -> list[Row]:
    answers = climb.pair.ask("round_trip", folder=str(climb.folder))
    sent = climb.subject.ported(climb.precision)
    doors = {"to_numpy": "weights", "get_state": "weights", "load": "weights", "slots": "optimizer"}
    expected = {f"{d}/{n}": a for d, part in doors.items() for n, a in sent[part].items()}
    axes = {name: row.axes for name, row in table(climb.subject.spec).items()}
    rows = []
    for wing, answer in answers.items():
        found = {
            f"axes of {name}": 0.0 if answer.facts["axes"].get(name) == each else INFINITE
            for name, each in axes.items()
        }
        found["step"] = 0.0 if answer.facts["step"] == STEP else INFINITE
        found |= {name: _bits(answer.arrays.get(name), array) for name, array in expected.items()}
        found |= dict.fromkeys(answer.arrays.keys() - expected.keys(), INFINITE)
        found |= {
            f"bytes of {f}": 0.0 if ok else INFINITE for f, ok in answer.facts["same"].items()
        }
        rows.append(climb.row(0, f"weights and state in and out of {wing}", found))
    return rows


def _bits(a: np.ndarray | None, b: np.ndarray) -> float:
    if a is None or a.dtype != b.dtype:
        return INFINITE
    return 0.0 if a.tobytes() == b.tobytes() and a.shape == b.shape else difference(a, b) or 1.0


def _pure_functions(climb: Climb) -> list[Row]:
    expected = functions.expected()
    return [
        climb.row(1, f"functions, {wing} against the oracle", differences(expected, answer.arrays))
        for wing, answer in climb.pair.ask("pure_functions").items()
    ]


def _forward(climb: Climb) -> list[Row]:
    values = {wing: trace.values for wing, trace in climb.traces.items()}
    rows = [climb.row(2, FORWARD, differences(values["torch"], values["jax"]))]
    if climb.precision == "float64":
        rows += [
            climb.row(2, f"forward, {wing} against the oracle", differences(climb.expected, held))
            for wing, held in values.items()
        ]
    return rows


def _backward(climb: Climb) -> list[Row]:
    return [climb.row(3, BACKWARD, _gradients(*climb.traces.values()))]


def _gradients(a: Trace, b: Trace) -> dict[str, float]:
    order = reversed(dict.fromkeys((*b.gradients, *a.gradients)))
    found = differences(a.gradients, b.gradients, order)
    return {f"gradient at {name}": apart for name, apart in found.items()}


def _step(climb: Climb) -> list[Row]:
    slopes = climb.double_gradients
    looked = {
        name: np.abs(slope) > SHARE_OF_LARGEST * np.abs(slope).max(initial=0)
        for name, slope in slopes.items()
        if name.startswith("parameter/")
    }
    rows = []
    for optimizer in OPTIMIZERS:
        answers = climb.pair.ask("step", optimizer=optimizer)
        held = [
            {name: a[looked[name]] if name in looked else a for name, a in answer.arrays.items()}
            for answer in answers.values()
        ]
        found = differences(*held)
        steps = {answer.facts["step"] for answer in answers.values()}
        found["step"] = 0.0 if steps == {STEP + 1} else INFINITE
        rows.append(climb.row(4, f"one {optimizer} step", found))
    return rows


def _trajectory(climb: Climb) -> list[Row]:
    wide = climb.precision == "float64"
    optimizer, steps = ("adam", ADAM_STEPS) if wide else ("sgd", SGD_STEPS)
    answers = climb.pair.ask("run", optimizer=optimizer, first=0, last=steps)
    return [climb.row(5, f"{steps} {optimizer} steps", _along(*_arrays(answers)))]


def _arrays(answers: Mapping[str, Any]) -> list[Arrays]:
    return [answer.arrays for answer in answers.values()]


def _along(a: Arrays, b: Arrays) -> dict[str, float]:
    """The differences of two runs: of the loss at each step, then of what they ended with."""
    losses = zip(a["loss"], b["loss"], strict=True)
    found = {f"loss of step {n}": difference(*pair) for n, pair in enumerate(losses)}
    return found | differences(a, b, [name for name in a if name != "loss"])


def _resume(climb: Climb) -> list[Row]:
    steps, test = RESUMED_STEPS[climb.precision], climb.precision != "float64"
    half, told = steps // 2, {"optimizer": "adam", "last": steps, "test": test}
    paths = {wing: climb.folder / f"{climb.precision}-{wing}" for wing in BACKENDS}
    alone = climb.pair.ask_each(
        "run",
        {w: {**told, "first": 0, "save": {str(half): str(path)}} for w, path in paths.items()},
    )
    begun_by = dict(zip(BACKENDS, reversed(BACKENDS), strict=True))
    handed = climb.pair.ask_each(
        "run",
        {
            wing: {**told, "first": half, "resume": str(paths[other] / f"step-{half:08d}")}
            for wing, other in begun_by.items()
        },
    )
    rows = []
    for wing, other in begun_by.items():
        a, b = alone[other].arrays, handed[wing].arrays
        names = [name for name in a if name.startswith("parameter/")]
        found = differences(a, b, names)
        if test:
            found = {"accuracy": round(abs(float(a["accuracy"] - b["accuracy"])), 9)}
        rows.append(climb.row(6, f"{half} steps in {other}, then {half} in {wing}", found))
    return rows


def _modes(climb: Climb) -> list[Row]:
    rows = []
    plain = climb.pair.ask("mode")
    if "compiled" in climb.modes:
        rows.append(_compiled(climb, plain["torch"].arrays))
    if "eager" in climb.modes:
        slow = climb.pair.trace_each({"jax": {"mode": "eager"}})["jax"]
        usual = climb.traces["jax"]
        found = differences(usual.values, slow.values) | _gradients(usual, slow)
        rows.append(climb.row(7, "jax eager against jit", found))
    if "lean" in climb.modes:
        lean = climb.pair.ask("mode", lean=True)
        for wing, answer in lean.items():
            found = _backwards(differences(plain[wing].arrays, answer.arrays))
            rows.append(climb.row(7, f"{wing} lean against plain", found))
    return rows


def _compiled(climb: Climb, plain: Arrays) -> Row:
    what = "torch compiled against eager"
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        why = f"torch.compile needs a C++ compiler, and there is no {compiler}"
        return Row(7, climb.precision, what, verdict=SKIPPED, why=why)
    compiled = climb.pair.ask_each("mode", {"torch": {"compile": True}})["torch"].arrays
    row = climb.row(7, what, _backwards(differences(plain, compiled)))
    if not row.fails:
        return row
    traced = climb.pair.trace_each({"torch": {"mode": "compiled"}})["torch"]
    first = first_difference(climb.traces["torch"], traced, row.tolerance)
    return dataclasses.replace(row, first=str(first or row.first))


def _backwards(found: dict[str, float]) -> dict[str, float]:
    """The same with the gradients from the last to the first, as the backward pass goes."""
    slopes = [name for name in found if name.startswith("gradient/")]
    others = [name for name in found if name not in slopes]
    return {name: found[name] for name in (*others, *reversed(slopes))}


CLIMBS: dict[int, Callable[[Climb], list[Row]]] = {
    0: _round_trip,
    1: _pure_functions,
    2: _forward,
    3: _backward,
    4: _step,
    5: _trajectory,
    6: _resume,
    7: _modes,
}


def on_gpu(cpu: Climb, gpu: Climb) -> list[Row]:
    """Rung 8: both wings on a GPU against each other, and each against itself on the CPU."""
    pairs: dict[str, tuple[Trace, Trace]] = {"torch against jax": tuple(gpu.traces.values())}  # pyright: ignore
    for wing in BACKENDS:
        pairs[f"{wing} on GPU against CPU"] = gpu.traces[wing], cpu.traces[wing]
    rows = []
    for what, (a, b) in pairs.items():
        rows.append(gpu.row(8, f"forward, {what}", differences(a.values, b.values)))
        rows.append(gpu.row(8, f"gradients, {what}", _gradients(a, b)))
    answers = gpu.pair.ask("run", optimizer="sgd", first=0, last=GPU_STEPS)
    rows.append(gpu.row(8, f"{GPU_STEPS} sgd steps, torch against jax", _along(*_arrays(answers))))
    return rows
