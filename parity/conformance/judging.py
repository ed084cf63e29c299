"""How far a function is from the oracle, and which known mistakes give the same numbers."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.conformance.calling import Answer, answers, frameworks
from parity.conformance.conventions import COUNT, Function, Way, guessed, inputs, stated
from parity.conformance.kinds import ConformanceError, Kind, kind_of
from parity.conformance.mistakes import SHORT, ZERO
from parity.spec import gist
from parity.traces.measure import difference

Array = np.ndarray
Answers = dict[str, Answer]

TOLERANCE = 1e-5  # rung 1 of the ladder in float32


@dataclass(frozen=True)
class Row:
    """One tensor of one case in one framework: how far it is from the oracle's."""

    case: str
    tensor: str
    difference: float
    framework: str

    @property
    def holds(self) -> bool:
        """Whether it is within the tolerance."""
        return self.difference <= TOLERANCE


@dataclass(frozen=True)
class Report:
    """What a check found; `mistakes` is empty where none of the known ones fits.

    frameworks  those that it was judged in
    convention  how it was called
    routing     the one of the table that a routing was held to
    """

    kind: str
    frameworks: list[str]
    convention: str
    rows: list[Row]
    mistakes: list[str] = field(default_factory=list)
    routing: str | None = None

    @property
    def conforms(self) -> bool:
        """Whether every tensor of every case is within the tolerance."""
        return all(row.holds for row in self.rows)


def check_callable(
    kind: str, function: Function, routing: str | None = None, call: str | None = None
) -> Report:
    """Holds a function of a kind (squash, routing, margin_loss) against the oracle.

    It is called with float32 NumPy arrays, torch tensors and JAX arrays, whichever are installed,
    and judged in each framework in which it runs; in NumPy, which has no gradients, only where it
    runs in no other. Of several ways to call it the one that conforms counts, or else the one whose
    numbers a known mistake explains; numbers that nothing explains are a verdict only where the
    call is sure.

    Args:
        kind: squash, routing or margin_loss.
        function: What is checked.
        routing: The one of `parity.spec.ROUTINGS` that a routing must be, dynamic unless given.
        call: How it is called, "f(votes, num_iterations=r)", instead of a guess.

    Raises:
        ConformanceError: Where no way works, or none that works is sure.
        SpecError: For an unknown routing.
    """
    asked = kind_of(kind, routing)
    ways = guessed(asked, function) if call is None else [stated(asked, call)]
    judged: list[tuple[Way, Report]] = []
    refusals: list[str] = []
    for way in ways:
        report, reasons = _judge(asked, function, way)
        refusals += reasons
        if report is not None:
            judged.append((way, report))
            if report.conforms:
                return report
    explained = [report for way, report in judged if _explains(way, report)]
    sure = [report for way, report in judged if way.sure]
    if explained or sure:
        return (explained or sure)[0]
    name = getattr(function, "__qualname__", function)
    tried = "\n  ".join([*(f"{way}: not sure, and other numbers" for way, _ in judged), *refusals])
    if judged:
        raise ConformanceError(
            f"{name}: it is not clear how to call it, and no call that works gives the right "
            f'numbers; say it with --call, for example "{judged[0][0]}", of '
            f"{', '.join(inputs(asked))}. Tried:\n  {tried}"
        )
    raise ConformanceError(
        f"{name} could not be called as {asked.title}; expected {asked.expected}: say how with "
        f"--call, or wrap it in such a function. Tried:\n  {tried}"
    )


def _explains(way: Way, report: Report) -> bool:
    """Whether known mistakes make these numbers, and not the way it was called."""
    if not report.mistakes:
        return False
    return way.sure or not any("iteration too" in mistake for mistake in report.mistakes)


def _judge(kind: Kind, function: Function, way: Way) -> tuple[Report | None, list[str]]:
    """A report of every framework in which the way works, and why it does not in others."""
    given: dict[str, Answers] = {}
    refusals = []
    for framework in frameworks():
        try:
            given[framework] = answers(kind, function, framework, way)
        except Exception as error:  # whatever somebody else's code may raise
            refusals.append(f"{framework}, {way}: {type(error).__name__}: {gist(error)}")
    if len(given) > 1:
        given.pop("numpy", None)
    if COUNT in way.names and any(_unmoved(each) for each in given.values()):
        return None, [*refusals, f"{way}: {COUNT} makes no difference to what it returns"]
    if not given:
        return None, refusals
    rows, mistakes = [], []
    for framework, each in given.items():
        own = list(_rows(kind, framework, each))
        rows += own
        if not all(row.holds for row in own):
            mistakes += _explain(kind, own, each)
    routing = None if kind.routing is None else kind.routing.name
    return Report(kind.name, [*given], str(way), rows, [*dict.fromkeys(mistakes)], routing), []


def _rows(kind: Kind, framework: str, given: Answers) -> Iterator[Row]:
    for name, answer in given.items():
        expected = answer.case.values()
        for tensor, ours, theirs in zip(kind.outputs, answer.values, expected, strict=False):
            yield Row(name, tensor, difference(ours, theirs), framework)
        if answer.gradient is not None:
            apart = difference(answer.gradient, answer.case.gradient())
            yield Row(name, "gradient", apart, framework)


def _unmoved(given: Answers) -> bool:
    """Whether other numbers of iterations of the same votes changed nothing."""
    pairs = [
        (one, other)
        for one, other in itertools.combinations(given.values(), 2)
        if one.case.x is other.case.x and one.case.more != other.case.more
    ]
    return bool(pairs) and all(
        np.array_equal(one.values[0], other.values[0], equal_nan=True) for one, other in pairs
    )


def _explain(kind: Kind, rows: list[Row], answers: Answers) -> list[str]:
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
    wrong = {row.case for row in rows if not row.holds and row.case in finite}
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
