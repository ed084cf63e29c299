"""Tables of what was measured, as text for a terminal and as Markdown for the documentation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rounds import Spread, Timing, Timings, seconds

BEGIN, END = "<!-- measured: {name} -->", "<!-- end of {name} -->"


@dataclass(frozen=True)
class Table:
    """A title, a row of names, rows of cells, and what the reader has to know."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def timings(group: Mapping[str, Any]) -> Timings:
    """The timings of a group as they were before they became JSON."""
    return {name: Timing(**each) for name, each in group["timings"].items()}


def number(x: float) -> str:
    """Three figures, no exponent: 0.0123, 1.23, 12.3, 1,230."""
    if x == 0:
        return "0"
    size = abs(x)
    places = next((n for n, least in enumerate((100, 10, 1, 0.1, 0.01)) if size >= least), 5)
    return f"{float(f'{x:.3g}'):,.{places}f}"


def ranged(spread: Spread | None, scale: float = 1.0) -> str:
    """The median and, in brackets, the smallest and largest; a dash where there is nothing."""
    if spread is None:
        return "-"
    low, high = sorted((spread.low * scale, spread.high * scale))
    return f"{number(spread.median * scale)} ({number(low)}-{number(high)})"


def cell(timing: Timing | None, scale: float = 1.0) -> str:
    """The time of a case, times `scale`, or why there is none."""
    if timing is not None and timing.failed:
        return "failed"
    return "-" if timing is None else ranged(seconds(timing), scale)


def rate(timing: Timing, amount: float) -> Spread | None:
    """`amount` a second: median, smallest, largest."""
    spread = seconds(timing)
    return spread and Spread(*(amount / each for each in (spread.median, spread.high, spread.low)))


def ratio_table(title: str, rows: Sequence[tuple[str, Spread | None, str]]) -> Table:
    """Ratios of two times of the same round, each with what is asked of it."""
    cells = [[name, ranged(spread), asked] for name, spread, asked in rows]
    return Table(title, ["ratio", "median (range)", "asked for"], cells)


def text(table: Table) -> str:
    """A table in columns as wide as they must be."""
    rows = [list(table.header), *map(list, table.rows)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(table.header))]

    def line(row: Sequence[str]) -> str:
        first, *others = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        return "  ".join([first, *others]).rstrip()

    ruler = "  ".join("-" * width for width in widths)
    body = [line(rows[0]), ruler, *map(line, rows[1:]), *(f"* {note}" for note in table.notes)]
    return "\n".join([table.title, *(f"  {each}" for each in body), ""])


def markdown(table: Table) -> str:
    """A table in GitHub's Markdown."""
    rows = [table.header, ["---"] * len(table.header), *table.rows]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"**{table.title}**", "", *lines, "", *(f"{each}\n" for each in table.notes)])


def conditions(section: Mapping[str, Any]) -> str:
    """When, with what and beside whom a section was measured, in a line."""
    machine, others = section["machine"], section["others"]
    shared = "" if others is None else f"; other processes used {others:.0%} of the cores meanwhile"
    return (
        f"{section['date']}, {section['scale']} sizes, {section['rounds']} rounds in "
        f"{section['seconds']:.0f} s, {machine['processor']}, {machine['cores']} cores, "
        f"torch {machine['versions']['torch']}, jax {machine['versions']['jax']}{shared}"
    )


def replace(path: Path, name: str, content: str) -> None:
    """Put `content` between the two marks of a section in a Markdown file, which has them."""
    whole = path.read_text()
    begin, end = BEGIN.format(name=name), END.format(name=name)
    if whole.count(begin) != 1 or whole.count(end) != 1:
        raise SystemExit(f"{path}: has no single pair of the lines {begin} and {end}")
    before, rest = whole.split(begin)
    path.write_text(f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}")
