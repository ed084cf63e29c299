"""The verb `conformance`: checks somebody's function against the oracle.

python -m parity conformance --module path.to.module:function     (or file.py:function)
"""

import contextlib
import dataclasses
import json as jsonlib
import math
import sys
from typing import Annotated, Any, Literal

import tyro
from rich.table import Table
from rich.text import Text

from parity.conformance.explaining import TOLERANCE
from parity.conformance.judging import Report, check_callable
from parity.conformance.kinds import ConformanceError, kind_of
from parity.conformance.loading import load
from parity.traces.show import COLOURS, DIFFERS, HOLDS, wide_console

WORDS = {
    "squash": "squash",
    "rout": "routing",
    "dynamic": "routing",
    "margin": "margin_loss",
    "loss": "margin_loss",
}


def main(
    *,
    module: Annotated[str, tyro.conf.arg(metavar="MODULE:NAME")],
    kind: Literal["squash", "routing", "margin_loss"] | None = None,
    routing: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None,
    call: Annotated[str | None, tyro.conf.arg(metavar="f(...)")] = None,
    json: bool = False,
) -> int:
    """Check somebody's squash, routing or margin loss against the oracle.

    Args:
        module: path.to.module:function or file.py:function, in torch, JAX or NumPy; it is run.
        kind: What it is; unless given, guessed from its name.
        routing: Which routing it must be, of those that a network may have; dynamic unless given.
        call: How it is called, like "f(votes, num_iterations=r)", in the names that
            docs/conformance.md lists; guessed unless given.
        json: Print one JSON object instead.

    Returns 0 where it conforms, 1 where it does not.
    """
    named = "routing" if routing is not None else None
    # What the module and the function print is not what was found.
    with contextlib.redirect_stdout(sys.stderr):
        function = load(module)
        what = kind or named or guess(module.rpartition(":")[2])
        report = check_callable(what, function, routing, call)
    if json:
        print(jsonlib.dumps(as_dict(report, module)))
    else:
        show(report, module)
    return 0 if report.conforms else 1


def guess(name: str) -> str:
    """The kind that a function's name contains; raises ConformanceError without one."""
    for word, kind in WORDS.items():
        if word in name.lower():
            return kind
    kinds = ", ".join(dict.fromkeys(WORDS.values()))
    raise ConformanceError(f"the name {name!r} does not tell its kind; add --kind, one of {kinds}")


def show(report: Report, module: str) -> None:
    """Prints the table and the verdict."""
    console = wide_console()
    what = kind_of(report.kind, report.routing).title
    called = f"{what} in {', '.join(report.frameworks)}, called as {report.convention}"
    console.print(f"{module}: {called}", soft_wrap=True)
    table = Table("framework", "case", "tensor", "difference", "")
    for row in report.rows:
        verdict = HOLDS if row.holds else DIFFERS
        cells = row.framework, row.case, row.tensor, f"{row.difference:.1e}"
        table.add_row(*cells, Text(verdict, style=COLOURS[verdict]))
    console.print(table)
    for framework, why in report.left_out.items():
        console.print(f"not in {framework}: {why}", soft_wrap=True, style="dim")
    if report.conforms:
        values_only = "; gradients of NumPy code are not checked"
        note = values_only if report.frameworks == ["numpy"] else ""
        console.print(f"conforms: every difference is at most {TOLERANCE:g}{note}", soft_wrap=True)
        return
    console.print("does not conform:")
    for mistake in report.mistakes or ["none of the known mistakes gives these numbers"]:
        where = [
            name for name, mistakes in report.mistakes_by_framework.items() if mistake in mistakes
        ]
        alone = f" (in {', '.join(where)})" if where not in ([], report.frameworks) else ""
        console.print(f"  {mistake}{alone}", soft_wrap=True)


def as_dict(report: Report, module: str) -> dict[str, Any]:
    """The report as JSON values; a difference that is not finite is null."""
    rows = [
        {**dataclasses.asdict(row), "holds": row.holds}
        | ({} if math.isfinite(row.difference) else {"difference": None})
        for row in report.rows
    ]
    values = dataclasses.asdict(report) | {"rows": rows, "mistakes": report.mistakes}
    return {"module": module, "conforms": report.conforms, "tolerance": TOLERANCE} | values
