"""Tables of what was measured, for a terminal and for docs/measured/speed.md, and a picture."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.sections import Group
from benchmarks.turns import Samples, ratios, spread

SCALES = {"s": 1, "ms": 1e3, "MiB": 1}
HEAD = """# Speed and memory, measured

Written by `make bench`, a section at a time; [docs/speed.md](../speed.md) says how to read it. A
figure is the median of the rounds, with the smallest and the largest in brackets.
"""
BLOCK = re.compile(r"<!-- (\w+) -->\n.*?\n<!-- end -->\n", re.DOTALL)


def number(x: float) -> str:
    """Three figures, no exponent: 0.0123, 1.23, 12.3, 1,230."""
    if x == 0:
        return "0"
    places = next((n for n, least in enumerate((100, 10, 1, 0.1, 0.01)) if abs(x) >= least), 5)
    return f"{float(f'{x:.3g}'):,.{places}f}"


def ranged(samples: Samples) -> str:
    """The median and, of several samples, the smallest and largest."""
    middle, low, high = map(number, spread(samples))
    return middle if len(samples) == 1 else f"{middle} ({low}-{high})"


def rows(group: Group, found: Mapping[str, Samples | str]) -> list[list[str]]:
    """The header and a row a case."""
    first = next(iter(found.values()))
    table = [["", group.unit, *(["images/s"] if group.images else []), "of the first"]]
    for name, samples in found.items():
        if isinstance(samples, str):
            table.append([name, "failed", *[""] * (len(table[0]) - 2)])
            continue
        cells = [name, ranged([x * SCALES[group.unit] for x in samples])]
        if group.images:
            cells.append(number(group.images / spread(samples)[0]))
        against = "" if isinstance(first, str) else ranged(ratios(samples, first))
        table.append([*cells, against])
    return table


def text(table: list[list[str]]) -> str:
    """Columns as wide as they must be."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in table
    )
    return "\n".join(f"  {line}".rstrip() for line in lines)


def markdown(table: list[list[str]]) -> str:
    """A table in GitHub's Markdown."""
    header, *others = (f"| {' | '.join(row)} |" for row in table)
    return "\n".join([header, "| --- " * len(table[0]) + "|", *others])


def write(path: Path, order: Iterable[str], name: str, content: str, measured: bool) -> None:
    """Put a section into the page; one that was not measured leaves an earlier one as it is."""
    whole = path.read_text() if path.exists() else ""
    blocks = {match[1]: match[0] for match in BLOCK.finditer(whole)}
    if measured or name not in blocks:
        blocks[name] = f"<!-- {name} -->\n{content}\n<!-- end -->\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = path.with_suffix(".png")
    image = [f"![Images a second of a training step]({drawn.name})\n"] if drawn.exists() else []
    sections = (blocks[each] for each in order if each in blocks)
    path.write_text("\n".join([HEAD, *image, *sections]))


def picture(path: Path, group: Group, found: Mapping[str, Samples | str]) -> None:
    """Draw the images a second of a group as bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    timed = {name: samples for name, samples in found.items() if not isinstance(samples, str)}
    rates = {name: group.images / spread(timed[name])[0] for name in reversed(timed)}
    hues = {"torch": "#c4532d", "JAX": "#2d6ec4"}
    colours = [hues.get(name.replace(",", " ").split()[0], "#8a8a8a") for name in rates]
    figure, axes = pyplot.subplots(figsize=(7, 0.32 * len(rates) + 0.9), layout="constrained")
    axes.barh(list(rates), list(rates.values()), color=colours, height=0.62)
    for place, rate in enumerate(rates.values()):
        axes.text(rate, place, f"  {number(rate)}", va="center", fontsize=8)
    axes.set_title(f"{group.title}: images a second", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(left=False)
    axes.margins(x=0.12)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
