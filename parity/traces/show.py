"""Prints how two traces differ: worst tensors, the first, its meaning."""

import math
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from parity.traces import oracle
from parity.traces.first import first_difference
from parity.traces.measure import differences, worst
from parity.traces.recording import Trace

HOLDS, DIFFERS = "holds", "differs"
COLOURS = {HOLDS: "green", DIFFERS: "red"}
WIDTH = 110


def wide_console() -> Console:
    """A console of at least `WIDTH` columns, in which names stay whole."""
    console = Console(highlight=False, markup=False)
    console.width = max(console.width, WIDTH)
    return console


def plain(one: Trace, other: Trace, tolerances: tuple[float, float]) -> dict[str, Any]:
    """The same as JSON values: every difference, null where it is not finite."""
    rows = [
        {"pass": kind, "tensor": name, "difference": apart if math.isfinite(apart) else None}
        | {"tolerance": tolerance, "holds": apart <= tolerance}
        for kind, tolerance in zip(("values", "gradients"), tolerances, strict=True)
        for name, apart in differences(getattr(one, kind), getattr(other, kind)).items()
    ]
    first = first_difference(one, other, *tolerances)
    answer: dict[str, Any] = {"traces": [one.name, other.name], "source": one.request["source"]}
    answer |= {"precision": one.request["precision"], "agree": first is None, "rows": rows}
    if first is not None:
        answer["first"] = str(first)
        if answer["precision"] == "float64":
            answer["verdict"] = str(oracle.verdict(one, other, *tolerances))
    return answer


def show(one: Trace, other: Trace, tolerances: tuple[float, float]) -> bool:
    """Prints how two traces of the same request differ; returns whether they agree.

    Args:
        one: A trace.
        other: Another, of the same network, batch and precision.
        tolerances: The largest differences that hold, of values and of gradients.
    """
    console, precision = wide_console(), one.request["precision"]
    table = Table("pass", "worst tensor", "difference", "tolerance", "")
    for kind, tolerance in zip(("values", "gradients"), tolerances, strict=True):
        name, apart = worst(differences(getattr(one, kind), getattr(other, kind)))
        verdict = HOLDS if apart <= tolerance else DIFFERS
        cells = kind, name if apart else "", f"{apart:.1e}", f"{tolerance:g}"
        table.add_row(*cells, Text(verdict, style=COLOURS[verdict]))
    console.print(f"{one.name} and {other.name}, {precision}, {one.request['source']}")
    console.print(table)
    first = first_difference(one, other, *tolerances)
    if first is None:
        return True
    console.print(f"first difference: {first}, {first.difference:.1e}")
    if precision == "float64":
        console.print(str(oracle.verdict(one, other, *tolerances)), soft_wrap=True)
    else:
        console.print("trace both with --precision float64 to learn whether it is rounding")
    return False
