"""A process that reads altered files, within bounds of memory and time, and tells what happened.

python -m fuzz.worker NAME SEED FIRST STOP FOLDER: one JSON object a line for each failure, one at
the end with the counts. The number of the input in work stands in FOLDER/at.
"""

import contextlib
import json
import os
import re
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from fuzz.reader import Reader
from fuzz.readers import READERS
from parity.spec import TwincapsError

SECONDS = 10  # of processor time for one input
FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "socket.connect",
)
STARVED = re.compile(r"(?i)(not|n't|unable to|bad.)alloc|out of memory|allocation failed")
CHANGING = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod")


class Hang(BaseException):
    """More processor time than any of these small files can need."""


class Escape(BaseException):
    """Something was run, or touched outside the folder."""


def inputs(reader: Reader, seed: int, numbers: range, whole: list[bytes]) -> Iterator[bytes]:
    """The altered files of these numbers: the same for the same seed, whatever came before."""
    for number in numbers:
        draw = Random(f"{seed}/{reader.name}/{number}")
        yield reader.mutate(draw, draw.choice(whole), whole)


def judge(reader: Reader, path: Path, content: bytes, whole: list[bytes]) -> tuple[str, str]:
    """("read", ""), ("refused", ""), or what was wrong and where."""
    path.write_bytes(content)
    try:
        result = reader.read(path)
        right = reader.right(result, content, whole)
        return ("read", "") if right else ("a wrong result", "")
    except TwincapsError as error:
        return ("an allocation", _where(error)) if _starved(error) else ("refused", "")
    except MemoryError as error:
        return "an allocation", _where(error)
    except (Hang, Escape, Exception) as error:
        return type(error).__name__, f"{str(error)[:200]} @ {_where(error)}"


def _starved(error: BaseException | None) -> bool:
    """Whether memory ran out below an error, in Python's words or another library's."""
    while error is not None:
        if isinstance(error, MemoryError) or STARVED.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _where(error: BaseException) -> str:
    places = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(f"{Path(each.filename).name}:{each.lineno}" for each in reversed(places))


def run(
    reader: Reader,
    seed: int,
    numbers: range,
    folder: Path,
    tell: Callable[[dict[str, Any]], None],
    begun: Callable[[int], None] = lambda number: None,
) -> dict[str, int]:
    """Read the inputs of these numbers; returns how many were read and refused."""
    counts = {"read": 0, "refused": 0}
    whole = reader.make(folder)
    path = folder / reader.file
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for content in whole:  # what is whole must be read, and what is imported be imported
            assert judge(reader, path, content, whole) == ("read", ""), reader.name
        for number, content in zip(numbers, inputs(reader, seed, numbers, whole), strict=True):
            begun(number)
            verdict, where = judge(reader, path, content, whole)
            if verdict in counts:
                counts[verdict] += 1
            else:
                tell({"number": number, "what": verdict, "where": where})
    return counts


def _watch(folder: Path) -> None:
    """Nothing may be run, and nothing be changed outside the folder."""
    inside = str(folder.resolve())

    def hook(event: str, arguments: tuple) -> None:
        if event.startswith(FORBIDDEN):
            raise Escape(f"{event} {arguments!r}")
        changes = event in CHANGING or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & 3
        )
        if changes and not os.path.realpath(os.fspath(arguments[0])).startswith(inside):
            raise Escape(f"{event} {arguments!r}")

    sys.addaudithook(hook)


def main() -> None:
    name, seed, first, stop, folder = sys.argv[1:]
    reader, place = READERS[name], Path(folder)
    at = os.open(place / "at", os.O_WRONLY | os.O_CREAT)
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    bounded = False

    def hang(number: int, frame: object) -> None:
        raise Hang

    def begun(number: int) -> None:
        nonlocal bounded
        if not bounded:  # all is imported by now
            bounded = True
            os.dup2(1, 2)
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + (reader.memory << 20)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            _watch(place)
        os.pwrite(at, f"{number:<20}".encode(), 0)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)

    def tell(what: dict[str, Any]) -> None:
        print(json.dumps(what), file=out)

    signal.signal(signal.SIGPROF, hang)
    began = time.monotonic()
    counts = run(reader, int(seed), range(int(first), int(stop)), place, tell, begun)
    tell({**counts, "seconds": time.monotonic() - began})


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
