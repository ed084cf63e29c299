"""Standard output and error of a command, also closed or on a full disk.

A command ends when its output can no longer be written, with one line of error or none. A training
calls `go_on` first, and continues without output.
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
    """The reader of standard output is gone, as `head` is after ten lines."""


def steadily(work: Callable[[], int]) -> int:
    """Runs a command; returns an exit code even if its output cannot be written.

    Args:
        work: The command; it may raise SystemExit, as tyro does after --help.

    Returns:
        The exit code of `work`; `LEFT` where the reader of its output is gone; 2, with one line on
        standard error, where its output cannot be written.
    """
    if isinstance(sys.stdout, Stream):
        return work()
    _open_closed()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Stream(sys.stdout), Stream(sys.stderr, goes_on=True, warned=True)
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
    """Lets a command go on without its output, with one warning, when that fails."""
    if isinstance(sys.stdout, Stream):
        sys.stdout.goes_on = True


class Stream:
    """A text stream that is redirected to the null device once a write fails.

    The first failure raises OutputError, or `Left` where the reader is gone; with `goes_on` it
    prints one warning on standard error instead.

    Args:
        stream: The stream to write to.
        goes_on: Whether a failure is a warning instead of an error.
        warned: Whether that warning was printed already; True suppresses it.
    """

    def __init__(self, stream: Any, goes_on: bool = False, warned: bool = False) -> None:
        self.stream, self.goes_on, self.warned = stream, goes_on, warned

    def write(self, text: str) -> int:
        """Writes a text; returns its length, also where it was dropped."""
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
        # Python writes what is still in the buffer when it exits: that is dropped too.
        with contextlib.suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.stream.fileno())
            os.close(nothing)
        reason = getattr(error, "strerror", None) or error
        if not self.goes_on:
            if isinstance(error, BrokenPipeError):
                raise Left from error
            raise OutputError(f"standard output: could not be written ({reason})") from error
        if not self.warned:
            self.warned = True
            fault = f"standard output cannot be written any more ({reason})"
            print(f"warning: {fault}; training goes on without", file=sys.stderr)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _open_closed() -> None:
    """Opens each closed standard stream on the null device.

    Otherwise a file of ours would get its number, and a library's output would be written into it.
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
