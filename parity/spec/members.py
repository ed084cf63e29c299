"""Packages whose functions are named by a table, each in a file of its own."""

import importlib
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any


def members(
    package: str, table: Iterable[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package with function NAME in `_NAME.py`.

    A row of the table is imported when it is asked for; one without a file is no attribute.

    Args:
        package: Its `__name__`.
        table: The names, ROUTINGS for example; read at each call.
    """

    def there(name: str) -> bool:
        return name in table and find_spec(f"{package}._{name}") is not None

    def find(name: str) -> Any:
        if not there(name):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        function = getattr(importlib.import_module(f"{package}._{name}"), name)
        setattr(sys.modules[package], name, function)  # the next access does not come here
        return function

    return find, lambda: sorted(filter(there, table))
