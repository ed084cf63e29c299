"""What is told of a training while it runs, and who listens."""

from typing import Any, Protocol

Line = dict[str, Any]  # one of metrics.jsonl


class Watcher(Protocol):
    """Is told each line of metrics as it is measured, and when there are no more."""

    def train(self, line: Line) -> None: ...
    def eval(self, line: Line) -> None: ...
    def close(self) -> None: ...
