"""What a comparison found, as data: equal or not, the first difference, its kind, the rest."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """Two tensors that are equal, or the two that differ first.

    Attributes:
        left: The left one's name.
        right: The right one's.
        layout: How the left's axes stand on the right, "" where alike.
        difference: By the ladder's measure, in the precision of the verdict.
        float32: The same of the models as they are, None where they were not compared so.
    """

    left: str
    right: str
    layout: str
    difference: float
    float32: float | None = None


@dataclass(frozen=True)
class Difference:
    """The first difference.

    Attributes:
        module: The left module that computes it.
        place: Where in it, in words.
        row: The two tensors.
        shapes: Theirs.
        kind: One of the kinds of `kinds.py`.
        facts: What was measured of it.
        suspects: What has been the cause before: hints.
        backward: Whether it is a gradient.
        last: The last two tensors that agree, None where nothing does.
    """

    module: str
    place: str
    row: Row
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    kind: str
    facts: tuple[str, ...]
    suspects: tuple[str, ...]
    backward: bool
    last: Row | None


@dataclass(frozen=True)
class Report:
    """Two models compared.

    Attributes:
        equal: Whether every final output agrees, and every gradient where they were asked for.
        frameworks: Of the left and the right.
        precision: What the verdict rests on: float64, or float32 where one cannot be cast.
        tolerance: The largest difference that counts as rounding there, at the coarsest dtype.
        first: The first difference, None where they are equal.
        rows: The tensors that agree, in the order of execution.
        alone: Tensors that have no partner, left and right: not recorded on the other side.
        counts: Of tensors, left and right.
        parameters: Those without a partner and what else is odd of them, as sentences.
        gradients: The gradients that agree.
        notes: What else a reader must know.
    """

    equal: bool
    frameworks: tuple[str, str]
    precision: str
    tolerance: float
    first: Difference | None
    rows: list[Row]
    alone: tuple[list[str], list[str]]
    counts: tuple[int, int]
    parameters: list[str] = field(default_factory=list)
    gradients: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values; what is not finite is null."""
        return _plain(asdict(self))

    def __str__(self) -> str:
        from parity.diff.show import lines

        return "\n".join(lines(self))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
