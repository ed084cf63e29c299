"""What is shown of a training while it runs, and who shows it.

A training is worth more than what is shown of it: a watcher that fails is dropped, with one
warning.
"""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, Protocol

from parity.runs.disk import RunWarning

Line = dict[str, Any]  # one of metrics.jsonl


class Watcher(Protocol):
    """Receives each line of metrics, and a call at the end.

    Attributes:
        name: What it shows, for the warning that it does no longer.
    """

    name: str

    def train(self, line: Line) -> None:
        """Receives the line of metrics of a training step."""
        ...

    def eval(self, line: Line) -> None:
        """Receives the line of metrics of an evaluation."""
        ...

    def close(self) -> None:
        """Ends what it shows: no more lines come."""
        ...


def tell(watchers: list[Watcher], event: str, *line: Line) -> None:
    """Calls a method of each watcher, and drops those that fail."""
    for watcher in [*watchers]:
        failed = True
        with spared(watcher.name):
            getattr(watcher, event)(*line)
            failed = False
        if failed:
            watchers.remove(watcher)


@contextlib.contextmanager
def spared(name: str) -> Iterator[None]:
    """Turns whatever goes wrong with something that is shown into a warning."""
    try:
        yield
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        warnings.warn(
            f"no more {name} ({reason}); training goes on without", RunWarning, stacklevel=4
        )
