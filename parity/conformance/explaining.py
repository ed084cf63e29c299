"""Which of the known mistakes give a function's numbers."""

import itertools
from collections.abc import Collection, Iterator
from typing import Any

from parity.conformance.calling import Answers
from parity.conformance.kinds import Kind
from parity.conformance.mistakes import SHORT, ZERO
from parity.traces.measure import difference

TOLERANCE = 1e-5  # rung 1 of the ladder in float32


def explain(kind: Kind, wrong: Collection[str], answers: Answers) -> tuple[list[str], bool]:
    """The mistakes that together give these answers, and whether they explain all.

    Args:
        kind: What kind of function it is.
        wrong: The cases in which something differs.
        answers: What the function returned, by case.
    """
    mistakes = []
    finite = {name: answer for name, answer in answers.items() if answer.finite}
    if len(finite) < len(answers):
        broken = [name for name in answers if name not in finite]
        mistakes.append(f"NaN at {ZERO if ZERO in broken else ', '.join(broken)}")
    if not finite:
        return mistakes, False
    # A factor is looked for in the one output of a kind, and where no other mistake is known.
    for scaled in (False, True) if kind.name != "routing" or not kind.mistakes else (False,):
        for names, settings in _suspects(kind):
            factor = _factor(finite, scaled, settings)
            if _same(finite, factor, settings):
                constant = [f"off by a constant factor {factor:.6g}"] if scaled else []
                return [*mistakes, *names, *constant], factor != 0
    epsilons = any(name.startswith("epsilon") for name in kind.mistakes)
    if epsilons and set(wrong) & set(finite) <= {SHORT, ZERO}:
        return [*mistakes, "epsilon in the norm, of an unknown size or place"], True
    return mistakes, False


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
