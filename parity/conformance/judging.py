"""Which call of a function is believed, and how far it is from the oracle."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from parity.conformance.calling import Answers, Attempt, Function, attempt
from parity.conformance.explaining import TOLERANCE, explain
from parity.conformance.expressions import check, parse
from parity.conformance.guessing import BARE, LIKELY, NAMED, UNNAMED, Guess, guesses
from parity.conformance.kinds import ConformanceError, Kind, kind_of
from parity.conformance.mistakes import ALWAYS
from parity.traces.measure import difference


@dataclass(frozen=True)
class Row:
    """One tensor of one case in one framework: how far it is from the oracle's."""

    framework: str
    case: str
    tensor: str
    difference: float

    @property
    def holds(self) -> bool:
        """Whether it is within the tolerance."""
        return self.difference <= TOLERANCE


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        convention: The call, as an expression that `call` takes.
        frameworks: Those in which the function ran: it conforms where it does in each.
        mistakes_by_framework: Those of each framework in which it does not conform; an empty list
            where none of the known ones fits.
        routing: The one of the table that a routing was held to.
        left_out: Framework -> why the function did not run in it.
    """

    kind: str
    convention: str
    frameworks: list[str]
    rows: list[Row]
    mistakes_by_framework: dict[str, list[str]] = field(default_factory=dict)
    routing: str | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def conforms(self) -> bool:
        """Whether every tensor of every case is within the tolerance, in every framework."""
        return all(row.holds for row in self.rows)

    @property
    def mistakes(self) -> list[str]:
        """The mistakes of all frameworks, each once."""
        return list(dict.fromkeys(itertools.chain(*self.mistakes_by_framework.values())))


Running = Callable[[Iterable[Guess]], Iterator[Attempt]]


@dataclass(frozen=True)
class Judged:
    """An attempt with its report.

    `explained` says whether known mistakes give all of its numbers.
    """

    attempt: Attempt
    report: Report
    explained: bool

    @property
    def decided(self) -> bool:
        """Whether nothing but a right call would give these numbers."""
        return self.report.conforms or self.explained


def check_callable(
    kind: str, function: Function, routing: str | None = None, call: str | None = None
) -> Report:
    """Holds `function` of a kind (squash, routing, margin_loss) against the oracle.

    It is called with float32 arrays of every framework that is installed, and held to the oracle in
    each in which it runs. A routing is held to that of `parity.spec.ROUTINGS` which is named,
    dynamic unless one is.

    Args:
        kind: squash, routing or margin_loss.
        function: Anything that can be called.
        routing: The name of a routing.
        call: How it is called, like "f(votes, num_iterations=r)"; guessed from the names of its
            parameters and from what it returns unless given.

    Raises ConformanceError where it does not run, or where it is not clear how it is called;
    SpecError for an unknown routing.
    """
    if call is not None:
        asked = parse(call)
        target = kind_of(kind, routing, asked.inputs)
        check(asked, target)
        tried = [attempt(function, asked, NAMED, target.asked(asked.inputs))]
        if not tried[0].answers:
            raise _unclear(function, target, tried)
        return _judge(target, tried[0]).report
    target, tried = kind_of(kind, routing), []

    def running(of: Iterable[Guess]) -> Iterator[Attempt]:
        for guess in of:
            asked = parse(guess.text)
            tried.append(attempt(function, asked, guess.rank, target.asked(asked.inputs)))
            if tried[-1].answers:
                yield tried[-1]

    likely = guesses(target, function)
    if kind == "routing":
        judged = _decide_routing(target, likely, running)
    else:
        judged = _decide(target, running(likely))
    if judged is None:
        raise _unclear(function, target, tried)
    return judged.report


def _decide(kind: Kind, ran: Iterable[Attempt]) -> Judged | None:
    """The first call that is decided, or else the only one that the names allow."""
    judged = []
    for trial in ran:
        judged.append(_judge(kind, trial))
        if judged[-1].decided:
            return judged[-1]
    first = [one for one in judged if one.attempt.rank == judged[0].attempt.rank]
    return first[0] if len(first) == 1 and first[0].attempt.rank != UNNAMED else None


def _decide_routing(kind: Kind, likely: list[Guess], running: Running) -> Judged | None:
    """The same for a routing, where the number of iterations must make a difference.

    A parameter whose name says that it is this number comes before all others. One that makes no
    difference forbids to call the function without it: what it is for would be unknown. So it is
    where only the call without it conforms: it may be a number of something else.
    """
    named = list(running(guess for guess in likely if guess.rank <= LIKELY))
    believed = [trial for trial in named if _counts(trial)]
    if believed:
        judged = _decide(kind, believed)
        if judged is not None and not judged.decided:
            bare = running(guess for guess in likely if guess.rank >= BARE)
            conforms = any(_judge(kind, trial).report.conforms for trial in bare)
            judged = None if conforms else judged
        return judged
    ignored = any(trial.rank == NAMED for trial in named)
    ranks = [UNNAMED] if ignored else [UNNAMED, BARE]
    others = list(running(guess for guess in likely if guess.rank in ranks))
    judged = _decide(kind, filter(_counts, others))
    if judged is not None:
        return judged
    # Some mistakes show in that the number of iterations makes no difference.
    for trial in (*named, *others):
        judged = None if _counts(trial) else _judge(kind, trial)
        if judged and judged.explained and not set(judged.report.mistakes) & set(ALWAYS):
            return judged
    return None


def _counts(tried: Attempt) -> bool:
    """Whether numbers of iterations that differ in the oracle differ here too."""
    if "r" not in tried.call.inputs:
        return True
    for answers in tried.answers.values():
        for one, other in itertools.combinations(answers.values(), 2):
            if one.case.more == other.case.more or not np.array_equal(one.case.x, other.case.x):
                continue
            if not (one.finite and other.finite):
                continue
            must = difference(one.case.values()[0], other.case.values()[0]) > TOLERANCE
            if must and difference(one.values[0], other.values[0]) <= TOLERANCE:
                return False
    return True


def _judge(kind: Kind, tried: Attempt) -> Judged:
    rows, mistakes, explained = [], {}, True
    for framework, answers in tried.answers.items():
        of_framework = _rows(kind, framework, answers)
        rows += of_framework
        wrong = {row.case for row in of_framework if not row.holds}
        if wrong:
            mistakes[framework], known = explain(kind, wrong, answers)
            explained = explained and known
    routing = None if kind.routing is None else kind.routing.name
    ran = list(tried.answers)
    report = Report(kind.name, tried.call.text, ran, rows, mistakes, routing, tried.refusals)
    return Judged(tried, report, explained)


def _rows(kind: Kind, framework: str, answers: Answers) -> list[Row]:
    rows = []
    for name, answer in answers.items():
        expected = answer.case.values()
        for tensor, got, want in zip(kind.outputs, answer.values, expected, strict=False):
            rows.append(Row(framework, name, tensor, difference(got, want)))
        if answer.gradient is not None:
            apart = difference(answer.gradient, answer.case.gradient())
            rows.append(Row(framework, name, "gradient", apart))
    return rows


def _unclear(function: Function, kind: Kind, tried: list[Attempt]) -> ConformanceError:
    """The error that asks for --call: what was tried, and the names it may use."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    lines, ran = {}, {framework for trial in tried for framework in trial.answers}
    for trial in tried:
        conforms = bool(trial.answers) and _judge(kind, trial).report.conforms
        outcome = "conforms" if conforms else "differs from the oracle in a way that is not known"
        outcome = outcome if _counts(trial) else "two and three iterations give the same"
        for framework in trial.answers:
            lines.setdefault((trial.call.text, outcome), []).append(framework)
        for framework, outcome in trial.refusals.items():
            if framework in ran or not ran:  # else it is a function of other frameworks
                lines.setdefault((trial.call.text, outcome), []).append(framework)
    outcomes = [f"{text} in {', '.join(of)}: {outcome}" for (text, outcome), of in lines.items()]
    inputs = "".join(f"\n  {word:<9} {what}" for word, what in kind.inputs.items())
    seen = "it is not clear how it is called" if ran else f"could not be called as {kind.title}"
    return ConformanceError(
        f"{name}: {seen}; expected {kind.expected}. Say how it is called by --call (call= in "
        f'Python), like --call "{_example(kind)}", or wrap it in such a function. Names for '
        f"--call:{inputs}\nTried:\n  " + "\n  ".join(outcomes)
    )


def _example(kind: Kind) -> str:
    if kind.name == "squash":
        return "f(x, axis=-1)"
    if kind.routing is None:
        return "f(one_hot, lengths)"
    owned = "".join(f", {group[0]}" for group in kind.needs[1:])
    return f"f(votes{owned}, num_iterations=r)" if kind.count else f"f(votes{owned})"
