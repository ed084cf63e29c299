"""TensorBoard's event files, through tensorboardX, on disks that may be full.

tensorboardX writes them in a thread, which dies of the first error; whoever trains would then
wait for it without end. A file that cannot be written any more is told of once and given up.
"""

import contextlib
import sys
from collections.abc import Callable
from typing import Any

PREFIX = "twincaps-events"  # of paths, by which tensorboardX knows whose files they are


class Sink:
    """A file of events as long as the disk takes them, then nothing."""

    def __init__(self, path: str) -> None:
        self.path, self.file = path, None
        try:
            self.file = open(path, "wb")  # noqa: SIM115 (tensorboardX closes it)
        except OSError as error:
            self._give_up(error)

    def write(self, content: bytes) -> None:
        self._try("write", content)

    def flush(self) -> None:
        self._try("flush")

    def close(self) -> None:
        self._try("close")

    def _try(self, what: str, *content: bytes) -> None:
        if self.file is not None:
            try:
                getattr(self.file, what)(*content)
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        file, self.file = self.file, None
        if file is not None:
            with contextlib.suppress(OSError):  # what it still holds cannot be written either
                file.close()
        said = f"{self.path}: no more events for TensorBoard ({error.strerror or error})"
        print(f"warning: {said}; training goes on without", file=sys.stderr, flush=True)


class _Sinks:
    """What tensorboardX asks of a kind of file."""

    def directory_check(self, path: str) -> None:
        """The folder of a run is there."""

    def open(self, path: str) -> Sink:
        return Sink(path.removeprefix(f"{PREFIX}:"))


def writer() -> Callable[..., Any] | None:
    """What opens a SummaryWriter of tensorboardX, with its options, for a run folder; None where
    that is not installed, or cannot be loaded.
    """
    # tensorboardX imports torch wherever that is installed; a run of the JAX wing must not.
    hide = "torch" not in sys.modules
    if hide:
        sys.modules["torch"] = None  # pyright: ignore[reportArgumentType]
    try:
        from tensorboardX import SummaryWriter
        from tensorboardX.record_writer import register_writer_factory
    except ImportError:
        return None
    finally:
        if hide:
            del sys.modules["torch"]
    register_writer_factory(PREFIX, _Sinks())
    return lambda folder, **options: SummaryWriter(f"{PREFIX}:{folder}", **options)
