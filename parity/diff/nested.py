"""Nests of tuples, lists and dicts, as modules take and return them."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


def over(value: Any, act: Callable[[str, Any], Any], part: str = "") -> Any:
    """The same nest of tuples, lists and dicts with act(place, leaf) for each leaf."""
    if isinstance(value, dict):
        changed = {key: over(each, act, f"{part}[{key}]") for key, each in value.items()}
        if all(changed[key] is value[key] for key in changed):
            return value
        if type(value) is dict:
            return changed
        with contextlib.suppress(Exception):  # a dict of the user's own class
            return type(value)(**changed)
        return value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        names = value._fields  # pyright: ignore[reportAttributeAccessIssue]
        return type(value)(
            *(over(v, act, f"{part}[{n}]") for n, v in zip(names, value, strict=True))
        )
    if isinstance(value, list | tuple):
        parts = [over(each, act, f"{part}[{n}]") for n, each in enumerate(value)]
        parts_same = all(a is b for a, b in zip(parts, value, strict=True))
        return value if parts_same else type(value)(parts)
    return act(part, value)


def leaves(value: Any) -> Iterator[tuple[str, Any]]:
    """The leaves of a nest with their places."""
    found: list[tuple[str, Any]] = []

    def keep(part: str, leaf: Any) -> Any:
        found.append((part, leaf))
        return leaf

    over(value, keep)
    yield from found
