"""The verbs check, trace and compare: the ladder and its traces from the command line."""

import json as jsonlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from parity.compare import oracle, subject, wings
from parity.compare.climb import Row
from parity.compare.difference import differences, worst
from parity.compare.first import first_difference
from parity.compare.ladder import PRECISIONS, Report, ladder
from parity.compare.rungs import RUNGS
from parity.compare.subject import BATCH, Subject
from parity.compare.tasks import MODES
from parity.compare.traces import load, refuse_unlike
from parity.spec import TwincapsError
from parity.weights import write_whole

COLOURS = {"holds": "green", "differs": "red", "raises": "red", "skipped": "yellow"}


def check(
    *,
    preset: str | None = None,
    run: Path | None = None,
    precision: Literal["both", "float64", "float32"] = "both",
    rungs: str = "0,1,2,3,4,5,6,7,8",
    batch: int = BATCH,
    seed: int = 0,
    json: Path | None = None,
    keep_going: bool = False,
    torch_python: str | None = None,
    jax_python: str | None = None,
) -> int:
    """Climb the ladder with both wings: 0 where every rung holds, 1 where one does not.

    Args:
        preset: The network to check (small unless a run is given).
        run: A run folder: its network, with the weights of its newest checkpoint.
        precision: float64 says what the mathematics is, float32 what practice is.
        rungs: Those to climb, apart by commas.
        batch: Images a step.
        seed: Of first weights and batch.
        json: Write what was found to this file too.
        keep_going: Climb on above a rung that does not hold.
        torch_python: The interpreter that has PyTorch, where it is another one.
        jax_python: The interpreter that has JAX, where it is another one.
    """
    pythons = {"torch": torch_python, "jax": jax_python}
    report = ladder(
        _subject(preset, run, seed, batch),
        rungs=_numbers(rungs),
        precisions=PRECISIONS if precision == "both" else (precision,),
        keep_going=keep_going,
        pythons={wing: python for wing, python in pythons.items() if python is not None},
    )
    show(report)
    if json is not None:
        write_whole(json, (jsonlib.dumps(report.as_dict(), indent=1) + "\n").encode())
    return 0 if report.holds else 1


def trace(
    out: Path,
    *,
    backend: Literal["torch", "jax"],
    preset: str | None = None,
    run: Path | None = None,
    precision: Literal["float64", "float32"] = "float32",
    mode: Literal["as usual", "compiled", "op by op"] = "as usual",
    batch: int = BATCH,
    seed: int = 0,
) -> None:
    """Write every tensor of one forward and backward pass of one wing to a file.

    Args:
        out: The file to write; one that is there is never overwritten.
        backend: The wing, the only one that is imported.
        preset: The network to trace (small unless a run is given).
        run: A run folder: its network, with the weights of its newest checkpoint.
        precision: Of the network.
        mode: How it is run.
        batch: Images of the pass.
        seed: Of first weights and batch.
    """
    assert mode in MODES
    if out.exists():
        raise TwincapsError(f"{out} is there already; name another file")
    whole = _subject(preset, run, seed, batch)
    with tempfile.TemporaryDirectory() as folder:
        pair = wings.pair(whole, precision, Path(folder), only=backend)
        try:
            made = pair.trace(mode=mode)[backend]
        finally:
            pair.close()
    made.save(out)
    print(f"{out}: {len(made.values)} tensors of {whole.source}, {made.name}, {precision}")


def compare(a: Path, b: Path) -> int:
    """Hold two traces against each other: 0 where every tensor agrees, 1 where one does not.

    Args:
        a: A file of `parity trace`.
        b: Another, of the same network, batch and precision.
    """
    one, other = load(a), load(b)
    refuse_unlike(one, other)
    precision = one.request["precision"]
    table = Table("pass", "worst tensor", "difference", "tolerance", "")
    for rung, kind in ((2, "values"), (3, "gradients")):
        name, apart = worst(differences(getattr(one, kind), getattr(other, kind)))
        tolerance = RUNGS[rung].tolerance(precision)
        verdict = "holds" if apart <= tolerance else "differs"
        table.add_row(kind, name, f"{apart:.1e}", f"{tolerance:g}", _coloured(verdict))
    console = Console(highlight=False)
    console.print(f"{one.name} against {other.name}, {precision}, {one.request['source']}")
    console.print(table)
    tolerances = [RUNGS[rung].tolerance(precision) for rung in (2, 3)]
    first = first_difference(one, other, *tolerances)
    if first is None:
        return 0
    console.print(f"first difference: {first}, {first.difference:.1e}")
    if precision == "float64":
        console.print(str(oracle.verdict(one, other, *tolerances)), soft_wrap=True)
    else:
        console.print("trace both in float64 to learn whether it is rounding")
    return 1


def show(report: Report) -> None:
    """Print the table of a ladder, the switches of both wings, and the verdict."""
    console = Console(highlight=False)
    table = Table("rung", "", "what", "worst tensor", "difference", "tolerance", "")
    last = None
    for row in report.rows:
        if last not in (None, (row.rung, row.precision)):
            table.add_section()
        last = row.rung, row.precision
        skipped = row.verdict == "skipped"
        numbers = ("", "") if skipped else (f"{row.difference:.1e}", f"{row.tolerance:g}")
        table.add_row(
            str(row.rung), row.precision, row.what, row.worst, *numbers, _coloured(row.verdict)
        )
    batch = f"batch {report.subject.batch}, seed {report.subject.seed}"
    console.print(f"{report.subject.source}, {batch}")
    console.print(table)
    for row in report.rows:
        if row.fails or row.why:
            console.print(_explained(row), soft_wrap=True)
    for name, told in report.environment.items():
        console.print(f"{name}: {_switches(told)}", soft_wrap=True, style="dim")
    failed = sorted({row.rung for row in report.rows if row.fails})
    said = "every rung holds" if report.holds else f"rung {', '.join(map(str, failed))} breaks"
    console.print(f"{said} ({report.seconds:.0f} s)")


def _explained(row: Row) -> str:
    first = f"first {row.first}: " if row.first else ""
    return f"rung {row.rung}, {row.precision}, {row.what}: {first}{row.why}"


def _coloured(verdict: str) -> str:
    return f"[{COLOURS[verdict]}]{verdict}[/]"


def _switches(report: Mapping[str, Any]) -> str:
    versions = " ".join(f"{name} {version}" for name, version in report["versions"].items())
    others = {k: v for k, v in report.items() if k not in ("versions", "framework")}
    return f"{versions}; " + ", ".join(f"{name} {value}" for name, value in others.items())


def _subject(preset: str | None, run: Path | None, seed: int, batch: int) -> Subject:
    if run is not None and preset is not None:
        raise TwincapsError(f"got --preset {preset} and --run {run}; expected one of them")
    if run is not None:
        return subject.from_run(run, seed=seed, batch=batch)
    return subject.from_preset(preset or "small", seed=seed, batch=batch)


def _numbers(rungs: str) -> list[int]:
    try:
        return [int(each) for each in rungs.split(",")]
    except ValueError as error:
        raise TwincapsError(f"--rungs {rungs}; expected numbers like 0,1,2") from error
