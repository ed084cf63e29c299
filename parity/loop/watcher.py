"""What is told of a training while it runs, and who listens.

A training is worth more than what is shown of it: a watcher that fails is told of once, and hears
no more.
"""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, Protocol

from parity.runs.disk import RunWarning

Line = dict[str, Any]  # one of metrics.jsonl


class Watcher(Protocol):
    """Is told each line of metrics as it is measured, and when there are no more.

    name  what it shows, for the warning that it does no longer
    """

    name: str

    def train(self, line: Line) -> None: ...
    def eval(self, line: Line) -> None: ...
    def close(self) -> None: ...


def tell(watchers: list[Watcher], event: str, *line: Line) -> None:
    """Call a method of each watcher, and drop those that fail."""
    for watcher in [*watchers]:
        failed = True
        with spared(watcher.name):
            getattr(watcher, event)(*line)
            failed = False
        if failed:
            watchers.remove(watcher)


@contextlib.contextmanager
def spared(name: str) -> Iterator[None]:
    """Turn whatever goes wrong with something that is shown into a warning."""
    try:
        yield
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        warnings.warn(
            f"no more {name} ({reason}); training goes on without", RunWarning, stacklevel=4
        )
