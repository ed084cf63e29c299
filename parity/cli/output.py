"""Standard output and error of a command: closed, on a full disk, or with nobody left to read.

A command ends there, with one line or none; from `go_on` on, as a training does, it goes on.
"""

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

from parity.spec import TwincapsError

LEFT = 141  # what a shell says of a program that SIGPIPE ended


class OutputError(TwincapsError):
    """Standard output that cannot be written."""


class Left(Exception):  # noqa: N818 (no error)
    """Whoever read standard output has left, as `head` does."""


def steadily(work: Callable[[], int]) -> int:
    """Runs a command to its exit code, also where its output cannot be written.

    That of `work`, which may also raise SystemExit, as tyro does after --help; `LEFT` where nobody
    reads what it prints, and 2, with one line, where that cannot be written.
    """
    if isinstance(sys.stdout, Stream):
        return work()
    _open_closed()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Stream(sys.stdout), Stream(sys.stderr, goes_on=True, told=True)
    try:
        try:
            code = work()
        except SystemExit:
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    except Left:
        return LEFT
    except OutputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        sys.stdout, sys.stderr = before
    return code


def go_on() -> None:
    """From here on, say once where nothing can be printed any more, and go on without."""
    if isinstance(sys.stdout, Stream):
        sys.stdout.goes_on = True


class Stream:
    """A stream that is written to until that fails, then goes to nothing.

    Args:
        stream: Where to write.
        goes_on: Whether a failure is one warning instead of an error.
        told: Whether that warning was given.
    """

    def __init__(self, stream: Any, goes_on: bool = False, told: bool = False) -> None:
        self.stream, self.goes_on, self.told = stream, goes_on, told

    def write(self, text: str) -> int:
        """Writes a text; returns its length, also where it goes to nothing."""
        try:
            return self.stream.write(text)
        except (OSError, ValueError) as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Hands what was written on to the system."""
        try:
            self.stream.flush()
        except (OSError, ValueError) as error:
            self._give_up(error)

    def _give_up(self, error: OSError | ValueError) -> None:
        # What is still held, Python writes when it ends: that, too, goes to nothing.
        with contextlib.suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.stream.fileno())
            os.close(nothing)
        reason = getattr(error, "strerror", None) or error
        if not self.goes_on:
            if isinstance(error, BrokenPipeError):
                raise Left from error
            raise OutputError(f"standard output: could not be written ({reason})") from error
        if not self.told:
            self.told = True
            said = f"standard output cannot be written any more ({reason})"
            print(f"warning: {said}; training goes on without", file=sys.stderr)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _open_closed() -> None:
    """Opens to nothing whichever of the three standard streams is closed.

    Else a file of ours would get its number, and what a library prints would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = open(number, "r+" if number == 0 else "w", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
