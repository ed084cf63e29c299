"""Give every reader altered files and count what goes wrong: `make fuzz`.

python -m fuzz [WORD ...] [--share N] [--seed N] [PAGE.md]: those readers whose names hold a word,
or all; an Nth of the inputs. Prints a table and writes it into a page of the documentation.
Any failure ends it with 1; `--only NUMBER` keeps that one input in a file to look at.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pages import fill, table
from rich.console import Console
from rich.table import Table
from rich.text import Text
from wings import ROOT

from fuzz.reader import Reader
from fuzz.readers import READERS
from fuzz.worker import inputs

PAUSE = 0.1  # counted, not measured: a machine that stands still makes nobody late
PATIENCE = 30.0  # seconds without a next input, after which a worker counts as hung
HEADER = ("read", "inputs", "refused", "read rightly", "failures")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--share", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    asked = parser.parse_args()
    pages = [each for each in asked.words if each.endswith(".md")]
    words = [each for each in asked.words if each not in pages]
    chosen = [r for name, r in READERS.items() if not words or any(w in name for w in words)]
    if asked.only is not None:
        return keep(chosen[0], asked.seed, asked.only)
    began, rows, failures = time.monotonic(), [], []
    for reader in chosen:
        count = -(-reader.count // asked.share)
        counts, found, seconds = tried(reader, asked.seed, count)
        failures += [(reader.name, *each) for each in found]
        rows.append([reader.name, count, counts["refused"], counts["read"], len(found)])
        print(f"{reader.name}: {count} in {seconds:.0f} s", file=sys.stderr, flush=True)
    total = sum(row[1] for row in rows)
    minutes = (time.monotonic() - began) / 60
    said = f"{total:,} inputs, {len(failures)} failures, in {minutes:.0f} minutes"
    shown = Table(*HEADER)
    for row in rows:
        shown.add_row(*(Text(str(cell)) for cell in row))
    console = Console(width=140)
    console.print(shown, said)
    for place, (count, first) in grouped(failures).items():
        console.print(Text(f"{count} x {place}, first {first}", style="red"), soft_wrap=True)
    for page in pages:
        fill(page, "fuzz", f"    make fuzz      # {said}\n\n{table(HEADER, rows)}")
    return 1 if failures else 0


def grouped(failures: list[tuple[str, int, str, str]]) -> dict[str, tuple[int, str]]:
    """Reader, kind and place -> how many there are of it, and the first: number and words."""
    groups: dict[str, tuple[int, str]] = {}
    for name, number, what, where in failures:
        place = f"{name}: {what} at {where.rpartition(' @ ')[2]}"
        count, first = groups.get(place, (0, f"{number}: {where.rpartition(' @ ')[0]}"))
        groups[place] = count + 1, first
    return groups


def keep(reader: Reader, seed: int, number: int) -> int:
    """Write one input to a folder for somebody to look at."""
    place = Path(tempfile.mkdtemp(prefix="twincaps-fuzz-"))
    whole = reader.make(place)
    (content,) = inputs(reader, seed, range(number, number + 1), whole)
    (place / reader.file).write_bytes(content)
    print(place / reader.file)
    return 0


def tried(
    reader: Reader, seed: int, count: int
) -> tuple[dict[str, int], list[tuple[int, str, str]], float]:
    """Counts, failures (number, what, where), seconds; a worker that dies is replaced."""
    counts, failures, first, seconds = {"read": 0, "refused": 0}, [], 0, 0.0
    while first < count:
        with tempfile.TemporaryDirectory(prefix="twincaps-fuzz-") as place:
            told, died, at = worked(reader, seed, first, count, Path(place))
        for each in told:
            if "number" in each:
                failures.append((each["number"], each["what"], each["where"]))
            else:
                seconds += each.pop("seconds")
                for name in counts:
                    counts[name] += each[name]
        if not died:
            break
        failures.append((at, died, ""))
        if at < first or sum(not where for *_, where in failures) > 20:
            break
        lost = at - first - sum("number" in each for each in told)
        counts["refused"] += max(lost, 0)  # refused or read: the worker died with the counts
        first = at + 1
    return counts, failures, seconds


def worked(
    reader: Reader, seed: int, first: int, stop: int, place: Path
) -> tuple[list[dict[str, Any]], str, int]:
    """What one worker told, what it died of ("" if it did not), and at which input."""
    argv = [sys.executable, "-m", "fuzz.worker", reader.name, seed, first, stop, place]
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/labs")))
    process = subprocess.Popen(
        [str(each) for each in argv],
        env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"},
        stdout=(out := open(place / "told", "w+")),  # noqa: SIM115
        stderr=subprocess.PIPE,
    )
    died = ""
    at, idle = first - 1, 0.0
    with out:
        while process.poll() is None:
            time.sleep(PAUSE)
            now = _number(place, first)
            at, idle = now, idle + PAUSE if now == at else 0.0
            if idle > PATIENCE:
                process.kill()
                died = "hung"
        assert process.stderr is not None
        said = process.stderr.read().decode(errors="replace")
        process.stderr.close()
        out.seek(0)
        told = [json.loads(line) for line in out.read().splitlines()]
    if process.wait() != 0 and not died:
        died = f"the process ended with code {process.returncode} {said[-300:]}"
    return told, died, _number(place, first)


def _number(place: Path, first: int) -> int:
    try:
        return int((place / "at").read_text() or first - 1)
    except FileNotFoundError:
        return first - 1


if __name__ == "__main__":
    sys.exit(main())
