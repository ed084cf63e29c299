"""Both wings in one precision on one device, and a row for each tensor compared."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from parity.compare.decisions import Decided, alike
from parity.compare.rungs import RUNGS
from parity.compare.subject import Subject
from parity.compare.wings import Pair, WingError
from parity.traces import oracle
from parity.traces.first import first_beyond
from parity.traces.measure import INFINITE, worst
from parity.traces.recording import Trace
from parity.traces.show import DIFFERS, HOLDS
from parity.weights import Arrays, state, table

RAISES, SKIPPED = "raises", "skipped"


@dataclass(frozen=True)
class Row:
    """One comparison: the tensor that differs most, by how much, and the verdict.

    Attributes:
        first: The first tensor beyond the tolerance, in the order of execution.
        why: What kind of difference it is, or why there was nothing to compare.
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


class Comparison:
    """The ladder in one precision on one device, with the rows compared so far.

    Args:
        folder: Where checkpoints are exchanged.
        modes: The modes of rung 7 to look at.
    """

    def __init__(self, subject: Subject, pair: Pair, folder: Path, modes: Iterable[str]):
        self.subject, self.pair, self.folder = subject, pair, folder
        self.precision = next(iter(pair.handles.values())).precision
        self.modes = tuple(modes)
        self._rows: dict[int, list[Row]] = {}
        self._decided: dict[bool, Decided] = {}

    def once(self, rung: int, compare: "Callable[[Comparison], list[Row]]") -> list[Row]:
        """The rows of a rung by the function that compares there, called once."""
        if rung not in self._rows:
            try:
                self._rows[rung] = compare(self)
            except WingError as error:
                self._rows[rung] = [raised(rung, self.precision, error)]
        return self._rows[rung]

    def row(self, rung: int, what: str, distances: Mapping[str, float], why: str = "") -> Row:
        """The row of these differences, which stand in the order of execution."""
        norms = sum(name.endswith(".norm.scale") for name in table(self.subject.spec))
        tolerance = RUNGS[rung].tolerance(self.precision, norms)
        name, apart = worst(distances)
        first = first_beyond(distances, tolerance)
        verdict = HOLDS if first is None else DIFFERS
        return Row(rung, self.precision, what, name, apart, tolerance, verdict, first or "", why)

    @functools.cached_property
    def traces(self) -> dict[str, Trace]:
        """The trace of each wing, as it usually runs, of a training step."""
        return self.pair.trace()

    @functools.cached_property
    def evaluated(self) -> dict[str, Trace]:
        """The trace of each wing in evaluation; none where that is the same."""
        return self.pair.trace(train=False) if state(self.subject.spec) else {}

    @functools.cached_property
    def expected(self) -> Arrays:
        """The oracle's forward pass of a training step, and the parameters it was given."""
        return self.oracle(self.traces["torch"])

    def oracle(self, trace: Trace) -> Arrays:
        """The oracle's forward pass for a trace, and the parameters it was given."""
        given = self.subject.cast(self.precision).items()
        seen = oracle.values(trace)
        return {**seen, **{f"parameter/{name}": array for name, array in given}}

    def decided(self, train: bool = True) -> Decided:
        """Traces of the first batch, this one or a brighter one, where relus decide alike."""
        if train not in self._decided:

            def trace(brighter: int) -> tuple[Trace, Trace]:
                if brighter == 0:
                    traces = self.traces if train else self.evaluated
                else:
                    traces = self.pair.trace(train=train, brighter=brighter)
                return traces["torch"], traces["jax"]

            self._decided[train] = alike(trace, RUNGS[2].tolerance(self.precision))
        return self._decided[train]

    def double_gradients(self) -> Arrays:
        """The gradients in float64, which decide what rung 4 looks at."""
        decided = self.decided()
        if self.precision == "float64":
            return decided.traces[0].gradients
        asked = {"precision": "float64", "brighter": decided.brighter}
        return self.pair.trace_each({"torch": asked})["torch"].gradients
