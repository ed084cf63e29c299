"""Specs to plain JSON values and back, strictly."""

import dataclasses
import typing
from typing import Any, TypeVar

from parity.spec.checks import require

T = TypeVar("T")


# Of a field that was added after specs were saved: it is left out of the JSON while it has its
# default, and has it where the JSON lacks it, so that what was saved goes on meaning the same.
LATER = {"later": True}


def to_dict(spec: Any) -> dict[str, Any]:
    """A spec as plain JSON values."""
    return {
        field.name: _plain(value)
        for field in dataclasses.fields(spec)
        for value in [getattr(spec, field.name)]
        if field.metadata != LATER or value != field.default
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


def from_dict(kind: type[T], values: Any) -> T:
    """A spec of `kind` from the values of `to_dict`; one error names every fault.

    A name whose default is None, or that was added later, may be missing. Of several
    kinds of spec, as routings and networks are, the values say which it is, under its `TAG`.
    """
    require(
        isinstance(values, dict),
        f"{kind.__name__}: got {type(values).__name__}; expected an object",
    )
    if hasattr(kind, "TAG"):
        kinds: typing.Any = kind
        kind = kinds.kind(values.get(kinds.TAG))
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(typing.cast(Any, kind))]
    values = {**_optional(kind), **values}
    unknown, missing = sorted(set(values) - set(names)), sorted(set(names) - set(values))
    require(
        not unknown and not missing, f"{kind.__name__}: unknown names {unknown}, missing {missing}"
    )
    return kind(**{name: _value(hints[name], values[name], name) for name in names})


def _optional(kind: Any) -> dict[str, Any]:
    return {
        field.name: field.default
        for field in dataclasses.fields(kind)
        if field.default is None or field.metadata == LATER
    }


def _value(hint: Any, value: Any, name: str) -> Any:
    if typing.get_origin(hint) is typing.Literal:  # which text it may be, the spec checks
        hint = str
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value)
    if origin is tuple:
        require(isinstance(value, list | tuple), f"{name}: got {value!r}; expected a list")
        return tuple(_value(inner[0], item, name) for item in value)
    if type(None) in inner:
        return None if value is None else _value(inner[0], value, name)
    fits = isinstance(value, int | float) if hint is float else isinstance(value, hint)
    if hint is float and isinstance(value, int) and fits:  # an endless one is no float
        fits = abs(value) < 2**1023
    require(
        fits and (hint is bool or not isinstance(value, bool)),
        f"{name}: got {value!r}; expected {hint.__name__}",
    )
    return float(value) if hint is float else value
