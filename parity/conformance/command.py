"""The verb: load somebody's function, hold it against the oracle, say what is wrong with it.

python -m parity conformance --module path.to.module:function     (or file.py:function)
"""

import dataclasses
import importlib
import importlib.util
import json as jsonlib
import math
import operator
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from parity.conformance.judging import TOLERANCE, Report, check_callable
from parity.conformance.kinds import ConformanceError, kind_of

WORDS = {
    "squash": "squash",
    "rout": "routing",
    "dynamic": "routing",
    "margin": "margin_loss",
    "loss": "margin_loss",
}


def main(
    *,
    module: str,
    kind: Literal["squash", "routing", "margin_loss"] | None = None,
    routing: str | None = None,
    call: str | None = None,
    json: bool = False,
) -> int:
    """Check somebody's squash, routing or margin loss against the oracle.

    Args:
        module: path.to.module:function or file.py:function, in torch, JAX or NumPy; it is run.
        kind: What it is; unless given, guessed from its name.
        routing: Which routing it must be, of those that a network may have; dynamic unless given.
        call: How it is called where that is not guessed right: "f(votes, num_iterations=r)". Names
            are x; votes and r; lengths or poses, labels or one_hot.
        json: Print one JSON object instead.

    Returns 0 where it conforms, 1 where it does not.
    """
    function = load(module)
    named = "routing" if routing is not None else None
    asked = kind or named or guess(module.rpartition(":")[2])
    report = check_callable(asked, function, routing, call)
    if json:
        print(as_json(report, module))
    else:
        show(report, module)
    return 0 if report.conforms else 1


def load(module: str) -> Callable[..., Any]:
    """The function that `path.to.module:name` or `file.py:name` means; the module is run.

    Raises ConformanceError.
    """
    path, _, name = module.rpartition(":")
    if not path or not name:
        raise ConformanceError(f"{module!r}; expected path.to.module:function or file.py:function")
    try:
        loaded = _load_file(Path(path)) if path.endswith(".py") else importlib.import_module(path)
        function = operator.attrgetter(name)(loaded)
    except (Exception, SystemExit) as error:
        raise ConformanceError(
            f"{module}: could not be loaded ({type(error).__name__}: {error}); expected "
            "path.to.module:function or file.py:function, of a module that can be imported"
        ) from error
    if not callable(function):
        raise ConformanceError(
            f"{module} is of type {type(function).__name__}; expected a function"
        )
    return function


def _load_file(path: Path) -> Any:
    """A module from a file, which may import its neighbours as a script may."""
    name = f"conformance_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = loaded = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(loaded)
    finally:
        sys.path.pop(0)
    return loaded


def guess(name: str) -> str:
    """The kind that a function's name speaks of; raises ConformanceError where it does not."""
    for word, kind in WORDS.items():
        if word in name.lower():
            return kind
    kinds = ", ".join(dict.fromkeys(WORDS.values()))
    raise ConformanceError(f"the name {name!r} does not tell its kind; add --kind, one of {kinds}")


def show(report: Report, module: str) -> None:
    """Print the table and the verdict."""
    console = Console(highlight=False)
    what = kind_of(report.kind, report.routing).title
    called = f"{what} of {' and '.join(report.frameworks)}, called as {report.convention}"
    console.print(f"{module}: {called}", markup=False, soft_wrap=True)
    several = len(report.frameworks) > 1
    table = Table(*["framework"] * several, "case", "tensor", "difference", "")
    for row in report.rows:
        verdict = "holds" if row.holds else "[red]differs[/red]"
        where = [row.framework] * several
        table.add_row(*where, row.case, row.tensor, f"{row.difference:.1e}", verdict)
    console.print(table)
    if report.conforms:
        values_only = "; gradients of NumPy code are not checked" * (report.frameworks == ["numpy"])
        console.print(f"conforms: every difference is at most {TOLERANCE:g}{values_only}")
        return
    console.print("does not conform:")
    for mistake in report.mistakes or ["none of the known mistakes gives these numbers"]:
        console.print(f"  {mistake}", soft_wrap=True)


def as_json(report: Report, module: str) -> str:
    """The report as JSON; a difference is null where one side alone is not finite."""
    rows = [
        {**dataclasses.asdict(row), "holds": row.holds}
        | ({} if math.isfinite(row.difference) else {"difference": None})
        for row in report.rows
    ]
    found = dataclasses.asdict(report) | {"rows": rows}
    found = {"module": module, "conforms": report.conforms, "tolerance": TOLERANCE} | found
    return jsonlib.dumps(found, indent=1)
