"""What a field of a spec may be, and what is said where it is something else."""

import dataclasses
import os
import re
import typing
from collections.abc import Callable
from typing import Any

_CODES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")  # colours of a terminal, its cursor


class TwincapsError(ValueError):
    """A user's mistake; its message says what came, what was expected and the fix."""


class SpecError(TwincapsError):
    """A network or a run that cannot be built."""


def gist(error: BaseException) -> str:
    """The main line of another library's message, without a terminal's codes.

    That is the first that is no banner, or the first that names an error where one does.
    """
    lines = [line.strip() for line in _CODES.sub("", str(error)).splitlines()]
    lines = [line for line in lines if line.strip("-=*^~")] or [repr(error)]
    naming = (line for line in lines if re.match(r"[\w. ]*[Ee]rror: .", line))
    heads = (line for line in lines if not line.endswith((":", "!")))
    return next(naming, next(heads, lines[0]))


def error_line(error: BaseException) -> str:
    """An exception's type and the main line of its message."""
    name = type(error).__name__
    return f"{name}: {gist(error)}" if str(error).strip() else name


def printable(text: str, besides: str = "") -> str:
    """Text with everything that is not printable escaped.

    So a name cannot break a line, send codes to a terminal, or fail to encode.

    Args:
        text: A name, or a message with names in it.
        besides: Characters that stay as they are, such as line ends in a message.
    """
    return "".join(
        letter
        if letter.isprintable() or letter in besides
        else letter.encode("unicode_escape").decode()
        for letter in text
    )


def require(holds: bool, message: str) -> None:
    """Raises SpecError with `message` unless it holds."""
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
    """Raises SpecError unless each number is as `expected`, one of the words above."""
    for name, number in numbers.items():
        require(_FITS[expected](number), f"{owner}: {name} is {number!r}; expected {expected}")


def normalise(spec: Any) -> None:
    """Makes the values of a spec equal to those its JSON gives: plain and hashable.

    A NumPy or whole number becomes an int or a float as the field is, a list or an array a tuple,
    a path a string. Raises SpecError for what is no bool, string, tuple or spec where one is due;
    numbers are left to `check`.
    """
    hints = typing.get_type_hints(type(spec))
    for field in dataclasses.fields(spec):
        value = _plain(
            hints[field.name], getattr(spec, field.name), type(spec).__name__, field.name
        )
        object.__setattr__(spec, field.name, value)


def _plain(hint: Any, value: Any, owner: str, name: str) -> Any:
    if typing.get_origin(hint) is typing.Literal:  # which text it may be, the spec checks
        hint = str
    inner = typing.get_args(hint)
    if type(None) in inner:
        return None if value is None else _plain(inner[0], value, owner, name)
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # NumPy's, which is not imported
        value = value.tolist()
    if typing.get_origin(hint) is tuple:
        require(isinstance(value, list | tuple), f"{owner}: {name} is {value!r}; expected a tuple")
        return tuple(_plain(inner[0], item, owner, name) for item in value)
    if hint in (int, float):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        return hint(value) if isinstance(value, hint) or (hint is float and _real(value)) else value
    if not isinstance(hint, type) or inner:  # a mapping, say: the spec that has it checks it
        return value
    if hint is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    require(isinstance(value, hint), f"{owner}: {name} is {value!r}; expected {hint.__name__}")
    return value


def fields(spec: Any, names: str) -> dict[str, Any]:
    """The named fields of a spec; names are one string, apart by spaces."""
    return {name: getattr(spec, name) for name in names.split()}


def check_count(count: int) -> None:
    """Raises SpecError where a batch has one number a channel, which has no variance."""
    if count < 2:
        raise SpecError(
            f"batch norm: {count} number a channel to train on (images x places); expected at "
            "least 2, use a larger batch"
        )
