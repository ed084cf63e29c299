"""A function behind a command line: its flags, its messages, its exit code."""

import contextlib
import importlib
import inspect
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import tyro

from parity.spec import TwincapsError, printable
from parity.wing.processes import Place

NEWLINE = "\n"


def call(module: str, function: str, argv: Sequence[str], prog: str) -> int:
    """Calls a function of one of our modules with the command line's arguments.

    Required arguments go without flags, unless the function takes all of them by name alone.
    Returns what it returns as the exit code, 0 for None, and 2 after a mistake of the user.
    """
    with reporting() as code:
        run = getattr(importlib.import_module(module), function)
        arguments = inspect.signature(run).parameters.values()
        by_place = any(argument.kind is not argument.KEYWORD_ONLY for argument in arguments)
        config = (tyro.conf.FlagCreatePairsOff, *[tyro.conf.PositionalRequiredArgs] * by_place)
        code[0] = tyro.cli(run, prog=prog, args=argv, config=config) or 0
    return code[0]


@contextlib.contextmanager
def reporting(place: Place | None = None) -> Iterator[list[int]]:
    """Turns a user's mistake into one message and code 2, an interruption into 130.

    One of several processes is named in its messages; only the first prints warnings and
    interruptions.
    """
    who = "" if place is None else f"{place}: "
    from parity.data import DataWarning
    from parity.runs.disk import RunWarning

    for stream in (sys.stdout, sys.stderr):
        # A terminal of few letters shows others as \u1234, where it would end the program.
        with contextlib.suppress(AttributeError, ValueError):  # not a stream of the system
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    ours = (RunWarning, DataWarning)
    code, silent = [0], place is not None and place.rank > 0
    show = warnings.showwarning

    def tell(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, ours):
            if not silent:
                print(f"warning: {printable(str(message), NEWLINE)}", file=sys.stderr)
        else:
            show(message, category, *place, **more)

    with warnings.catch_warnings():
        for kind in ours:
            warnings.simplefilter("always", kind)
        warnings.showwarning = tell
        try:
            yield code
        except TwincapsError as error:
            print(f"error: {who}{printable(str(error), NEWLINE)}", file=sys.stderr)
            code[0] = 2
        except KeyboardInterrupt as error:
            if not silent:
                print(str(error) or "interrupted", file=sys.stderr)
            code[0] = 130
