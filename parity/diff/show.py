"""A report that a person reads in half a minute, and a picture of the difference by depth."""

import math
import os
from collections.abc import Iterator

from parity.diff.report import Difference, Report, Row

SHOWN = 5  # names in a list, unless asked for more


def lines(report: Report, top: int = 0) -> Iterator[str]:
    """The report, line by line.

    Args:
        report: What was found.
        top: How many of the tensors that agree are listed, the furthest apart first.
    """
    sides = " and ".join(report.frameworks)
    yield f"{sides}, verdict in {report.precision}, tolerance {report.tolerance:g}"
    matched, (ours, theirs) = len(report.rows), report.counts
    agree = "tensor agrees" if matched == 1 else "tensors agree"
    yield f"{matched} {agree} (of {ours} on the left, {theirs} on the right)"
    if report.first is None:
        yield from _equal(report)
    else:
        yield from _different(report.first)
    if report.first is None:
        yield from _alone(report)
    for sentence in report.parameters:
        yield f"parameters: {sentence}"
    for note in report.notes:
        yield f"note: {note}"
    if top:
        yield ""
        for row in sorted(report.rows, key=lambda row: -_worst(row))[:top]:
            yield f"  {_row(row)}"


def _equal(report: Report) -> Iterator[str]:
    worst = max((row.difference for row in report.rows), default=0.0)
    as_are = [row.float32 for row in report.rows if row.float32 is not None]
    beside = f", {max(as_are):.1e} as they are" if as_are else ""
    yield f"equal: every final output agrees; largest difference {worst:.1e}{beside}"
    if report.gradients:
        slopes = max(row.difference for row in report.gradients)
        yield f"{len(report.gradients)} gradients agree; largest difference {slopes:.1e}"


def _different(first: Difference) -> Iterator[str]:
    yield ""
    if first.last is not None:
        yield f"last that agrees   {_row(first.last)}"
    yield f"first difference   {first.place}"
    shapes = "" if first.shapes[0] == first.shapes[1] else (
        f"  {list(first.shapes[0])} and {list(first.shapes[1])}")  # fmt: skip
    yield f"                   {_row(first.row)}{shapes}"
    yield f"kind               {first.kind}"
    for fact in first.facts:
        yield f"                   {fact}"
    for number, hint in enumerate(first.suspects):
        yield f"{'usual suspects' if number == 0 else '':<19}{hint}"
    yield ""


def _alone(report: Report) -> Iterator[str]:
    for side, other, names in (
        ("left", "right", report.alone[0]),
        ("right", "left", report.alone[1]),
    ):
        if names:
            more = f" and {len(names) - SHOWN} more" * (len(names) > SHOWN)
            yield f"{side}, not recorded on the {other}: {', '.join(names[:SHOWN])}{more}"


def _row(row: Row) -> str:
    names = row.left if row.left == row.right else f"{row.left} ~ {row.right}"
    apart = "infinite" if math.isinf(row.difference) else f"{row.difference:.1e}"
    layout = f"  ({row.layout})" if row.layout else ""
    beside = "" if row.float32 is None else f", {row.float32:.1e} as they are"
    return f"{names}  {apart}{beside}{layout}"


def _worst(row: Row) -> float:
    return max(row.difference, row.float32 or 0.0)


def picture(report: Report, path: str | os.PathLike) -> None:
    """Draws the difference of each pair of tensors along the depth, as a PNG or SVG file.

    Args:
        report: What was found.
        path: The file, which is overwritten; its ending says which kind.
    """
    import matplotlib.figure

    rows = [*report.rows, *([report.first.row] if report.first else [])]
    figure = matplotlib.figure.Figure((max(6.0, 0.16 * len(rows)), 4.0), layout="constrained")
    axes = figure.subplots()
    floor = 1e-17
    for name, values in (
        (report.precision, [row.difference for row in rows]),
        ("as they are", [row.float32 for row in rows]),
    ):
        places = [n for n, v in enumerate(values) if v is not None and math.isfinite(v)]
        if places:
            axes.semilogy(places, [max(values[n] or 0.0, floor) for n in places], ".-", label=name)
    axes.axhline(report.tolerance, color="grey", linewidth=0.8, linestyle="--", label="tolerance")
    if report.first is not None:
        axes.axvline(len(rows) - 1, color="tab:red", linewidth=0.8)
        axes.set_title(f"first difference: {report.first.place}", fontsize=9)
    step = max(1, len(rows) // 40)
    axes.set_xticks(range(0, len(rows), step), [row.left for row in rows[::step]],
                    rotation=90, fontsize=6)  # fmt: skip
    axes.set_ylabel("max|a - b| / max")
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=150)
