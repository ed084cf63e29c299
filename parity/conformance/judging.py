"""How far a function is from the oracle, and which known mistakes give the same numbers."""

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.conformance.calling import Answer, Function, ask, conventions, frameworks
from parity.conformance.kinds import ConformanceError, Kind, kind_of
from parity.conformance.mistakes import SHORT, ZERO
from parity.traces.measure import difference

Array = np.ndarray
Answers = dict[str, Answer]

TOLERANCE = 1e-5  # rung 1 of the ladder in float32


@dataclass(frozen=True)
class Row:
    """One tensor of one case: how far it is from the oracle's."""

    case: str
    tensor: str
    difference: float

    @property
    def holds(self) -> bool:
        """Whether it is within the tolerance."""
        return self.difference <= TOLERANCE


@dataclass(frozen=True)
class Report:
    """What a check found; `mistakes` is empty where none of the known ones fits.

    routing  the one of the table that a routing was held to
    """

    kind: str
    framework: str
    convention: str
    rows: list[Row]
    mistakes: list[str] = field(default_factory=list)
    routing: str | None = None

    @property
    def conforms(self) -> bool:
        """Whether every tensor of every case is within the tolerance."""
        return all(row.holds for row in self.rows)


def check_callable(kind: str, function: Function, routing: str | None = None) -> Report:
    """Hold `function` of a kind (squash, routing, margin_loss) against the oracle.

    It is called with float32 NumPy arrays first, then with torch tensors and JAX arrays, whichever
    are installed; of several ways to call it, the one that conforms or can be explained counts.
    A routing is held to that of `parity.spec.ROUTINGS` which is named, dynamic unless one is.
    Raises ConformanceError where no way works, SpecError for an unknown routing.
    """
    held = kind_of(kind, routing)
    ways, refusals = conventions(held, function), []
    for framework in frameworks():
        reports = []
        for name, convention in ways.items():
            try:
                asked = {c: ask(function, framework, convention, x) for c, x in held.cases.items()}
            except Exception as error:  # whatever somebody else's code may raise
                said = (str(error).strip().splitlines() or [""])[0]
                refusals.append(f"{framework}, {name}: {type(error).__name__}: {said}")
                continue
            answers = {case: answer for case, answer in asked.items() if answer is not None}
            reports.append(_judge(held, framework, name, answers))
            if reports[-1].conforms:
                break
        if reports:
            return min(reports, key=lambda report: (not report.conforms, not report.mistakes))
    raise ConformanceError(
        f"{getattr(function, '__qualname__', function)} could not be called as {held.title}; "
        f"expected {held.expected}: wrap it in such a function. Tried:\n  " + "\n  ".join(refusals)
    )


def _judge(kind: Kind, framework: str, convention: str, answers: Answers) -> Report:
    rows = []
    for name, answer in answers.items():
        expected = answer.case.values()
        for tensor, got, want in zip(kind.outputs, answer.values, expected, strict=False):
            rows.append(Row(name, tensor, difference(got, want)))
        if answer.gradient is not None:
            apart = difference(answer.gradient, answer.case.gradient())
            rows.append(Row(name, "gradient", apart))
    routing = None if kind.routing is None else kind.routing.name
    report = Report(kind.name, framework, convention, rows, routing=routing)
    if report.conforms:
        return report
    return dataclasses.replace(report, mistakes=_explain(kind, report, answers))


def _explain(kind: Kind, report: Report, answers: Answers) -> list[str]:
    """The mistakes that together give these answers, as far as they are known."""
    mistakes = []
    finite = {name: answer for name, answer in answers.items() if answer.finite}
    if len(finite) < len(answers):
        broken = [name for name in answers if name not in finite]
        mistakes.append(f"NaN at {ZERO if ZERO in broken else ', '.join(broken)}")
    if not finite:
        return mistakes
    # A factor is looked for in the one output of a kind, and where no other mistake is known.
    for scaled in (False, True) if kind.name != "routing" or not kind.mistakes else (False,):
        for names, settings in _suspects(kind):
            factor = _factor(finite, scaled, settings)
            if _same(finite, factor, settings):
                constant = [f"off by a constant factor {factor:.6g}"] if scaled else []
                return [*mistakes, *names, *constant]
    wrong = {row.case for row in report.rows if not row.holds and row.case in finite}
    if kind.mistakes and wrong <= {SHORT, ZERO}:
        mistakes.append("epsilon in the norm, of an unknown size or place")
    return mistakes


def _suspects(kind: Kind) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """No mistake, each mistake, and each pair of mistakes of different switches."""
    for count in range(3):
        for rows in itertools.combinations(kind.mistakes.items(), count):
            settings = {key: value for _, row in rows for key, value in row.items()}
            if len(settings) == count:
                yield [name for name, _ in rows], settings


def _factor(answers: Answers, scaled: bool, settings: dict[str, Any]) -> float:
    """The constant that brings a variant closest to the first answer that is not 0."""
    for answer in answers.values() if scaled else ():
        wrong, *_ = answer.case.values(**settings)
        if (wrong != 0).any():
            return float((answer.values[0] * wrong).sum() / (wrong * wrong).sum())
    return 1.0


def _same(answers: Answers, factor: float, settings: dict[str, Any]) -> bool:
    """Whether a wrong variant, its first output times `factor`, gives these answers."""
    for answer in answers.values():
        first, *others = answer.case.values(**settings)
        pairs = zip(answer.values, [factor * first, *others], strict=False)
        if any(difference(got, wrong) > TOLERANCE for got, wrong in pairs):
            return False
    return all(
        difference(answer.gradient, factor * answer.case.gradient(**settings)) <= TOLERANCE
        for answer in answers.values()
        if answer.gradient is not None
    )
