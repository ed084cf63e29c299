"""What a field of a spec may be, and what is said where it is something else."""

import re
from collections.abc import Callable
from typing import Any

_CODES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")  # colours of a terminal, its cursor


class TwincapsError(ValueError):
    """A mistake the user can mend; its message says what came, what was expected and the fix."""


class SpecError(TwincapsError):
    """A network or a run that cannot be built."""


def gist(error: BaseException) -> str:
    """The line of another library's message that says what happened, without a terminal's codes.

    That is the first, or the first that names an error where one does further down.
    """
    lines = [line.strip() for line in _CODES.sub("", str(error)).splitlines() if line.strip()]
    naming = (line for line in lines if re.match(r"[\w. ]*[Ee]rror: .", line))
    return next(naming, lines[0] if lines else repr(error))


def printable(text: str, besides: str = "") -> str:
    """Names of others as they can be shown anywhere: what is not printable is escaped.

    That is the end of a line, a terminal's code, a byte of a file's name that is no text.

    Args:
        text: The name, or a message with names in it.
        besides: What is left as it is, a line's end in a message.
    """
    return "".join(
        each if each.isprintable() or each in besides else each.encode("unicode_escape").decode()
        for each in text
    )


def require(holds: bool, message: str) -> None:
    """Raise SpecError with `message` unless it holds."""
    if not holds:
        raise SpecError(message)


def _real(x: Any) -> bool:
    if isinstance(x, bool) or not isinstance(x, int | float):
        return False
    return abs(x) < 2**1023  # false for NaN, and an endless integer is no float


# What a number can be asked to be, in the words of the error.
FINITE, POSITIVE, FROM_ZERO = "a finite number", "a number above 0", "a number of at least 0"
COUNT, WHOLE = "a whole number above 0", "a whole number of at least 0"
_FITS: dict[str, Callable[[Any], bool]] = {
    FINITE: _real,
    POSITIVE: lambda x: _real(x) and x > 0,
    FROM_ZERO: lambda x: _real(x) and x >= 0,
    COUNT: lambda x: type(x) is int and x > 0,
    WHOLE: lambda x: type(x) is int and x >= 0,
}


def check(owner: str, expected: str, **numbers: Any) -> None:
    """Raise SpecError unless each number is what is expected, one of the words above."""
    for name, number in numbers.items():
        require(_FITS[expected](number), f"{owner}: {name} is {number!r}; expected {expected}")


def fields(spec: Any, names: str) -> dict[str, Any]:
    """The named fields of a spec; names are one string, apart by spaces."""
    return {name: getattr(spec, name) for name in names.split()}
