"""A report of the ladder, printed: tables, reasons, switches, verdict."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from parity.compare._ladder import Report
from parity.compare.comparison import RAISES, SKIPPED, Row
from parity.traces.show import COLOURS, DIFFERS, HOLDS, wide_console

STYLES = {**COLOURS, RAISES: "red", SKIPPED: "yellow"}


def show(report: Report) -> None:
    """Prints the tables of a ladder, the switches of both wings, and the verdict."""
    console, subject = wide_console(), report.subject
    console.print(f"{subject.source}, batch {subject.batch}, seed {subject.seed}")
    for precision in dict.fromkeys(row.precision for row in report.rows):
        console.print(_table(precision, [row for row in report.rows if row.precision == precision]))
    for row in report.rows:
        if row.why:
            console.print(_reason(row), soft_wrap=True)
    for name, switches in report.environment.items():
        console.print(f"{name}: {_switches(switches)}", soft_wrap=True, style="dim")
    broken = [f"rung {row.rung} in {row.precision}" for row in report.rows if row.fails]
    verdict = f"broken: {', '.join(dict.fromkeys(broken))}" if broken else "every rung holds"
    console.print(f"{verdict} ({report.seconds:.0f} s)")


def _table(precision: str, rows: list[Row]) -> Table:
    table = Table("rung", "what", "worst tensor", "difference", "tolerance", "", title=precision)
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        numbers = "", ""
        if row.verdict in (HOLDS, DIFFERS):
            numbers = f"{row.difference:.1e}", f"{row.tolerance:g}"
        worst_tensor = row.worst if row.tolerance or row.difference else ""
        cells = str(row.rung), row.what, worst_tensor, *numbers
        verdict = Text(row.verdict, style=STYLES[row.verdict])
        table.add_row(*cells, verdict, end_section=after is None or after.rung != row.rung)
    return table


def _reason(row: Row) -> str:
    if not row.fails:
        return f"{row.precision}, rung {row.rung}: {row.verdict}, {row.why}"
    first = f"first {row.first}; " if row.first else ""
    return f"{row.precision}, rung {row.rung}, {row.what}: {first}{row.why}"


def _switches(report: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    others = {k: v for k, v in report.items() if k not in ("versions", "framework")}
    return f"{versions}; " + ", ".join(f"{name} {value}" for name, value in others.items())
