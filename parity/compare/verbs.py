"""The verbs check, trace and compare: the command line of the ladder."""

import json as jsonlib
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from parity.compare import show, subject, wings
from parity.compare._ladder import PRECISIONS, ladder
from parity.compare.rungs import BATCH, RUNGS
from parity.compare.subject import Subject
from parity.spec import TwincapsError
from parity.traces import recording
from parity.traces.show import plain
from parity.traces.show import show as show_traces


def _shown(metavar: str, unset: str) -> Any:
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {unset})")


Saved = Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME|RUN|FILE")]
PresetName = Annotated[str | None, _shown("NAME", "small, unless there is a run")]
Python = Annotated[str | None, _shown("PATH", "this one")]


def check(
    run: Saved = None,
    *,
    preset: PresetName = None,
    precision: Literal["both", "float64", "float32"] = "both",
    rungs: Annotated[str, _shown("N,N,...", "all")] = ",".join(str(r.number) for r in RUNGS),
    json: bool = False,
    batch: int = BATCH,
    seed: int = 0,
    keep_going: bool = False,
    torch_python: Python = None,
    jax_python: Python = None,
) -> int:
    """Check the ladder: are the two wings one network?

    Exits with 0 where every rung holds, else with 1.

    Args:
        run: small-mnist, a run, one of its checkpoints, or .safetensors: its network and weights.
        preset: The network to check.
        precision: float64 shows what is computed, float32 what is lost to rounding.
        rungs: The rungs to compare.
        json: Print one JSON object instead: every number, and what was installed and switched.
        batch: Images a step.
        seed: Of first weights and optimiser state.
        keep_going: Go on above a rung that does not hold.
        torch_python: The interpreter that has PyTorch.
        jax_python: The interpreter that has JAX.
    """
    pythons = {"torch": torch_python, "jax": jax_python}
    report = ladder(
        _subject(run, preset, seed, batch),
        rungs=_numbers(rungs),
        precisions=PRECISIONS if precision == "both" else (precision,),
        keep_going=keep_going,
        pythons={wing: python for wing, python in pythons.items() if python is not None},
    )
    if json:
        print(jsonlib.dumps(report.as_dict(), indent=1))
    else:
        show.show(report)
    return 0 if report.holds else 1


def trace(
    out: Annotated[Path, tyro.conf.arg(metavar="OUT")],
    run: Saved = None,
    *,
    backend: Literal["torch", "jax"] = "torch",
    preset: PresetName = None,
    precision: Literal["float64", "float32"] = "float32",
    mode: Literal["usual", "compiled", "eager"] = "usual",
    batch: int = BATCH,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Write every tensor of one forward and backward pass of one wing to a file.

    Args:
        out: The safetensors file to write; one that is there is not replaced.
        run: small-mnist, a run, one of its checkpoints, or .safetensors: its network and weights.
        backend: The wing, the only one that is needed here.
        preset: The network to trace.
        precision: Of the network.
        mode: usual is eager for torch, compiled for JAX.
        batch: Images of the pass.
        seed: Of first weights.
        json: Print one JSON object instead of a line.
    """
    if out.exists() or not out.absolute().parent.is_dir():
        raise TwincapsError(f"{out}: is there already, or its folder is not; name a new file")
    whole = _subject(run, preset, seed, batch)
    with (
        tempfile.TemporaryDirectory() as folder,
        wings.pair(whole, precision, Path(folder), only=backend) as pair,
    ):
        record = pair.trace(mode=mode)[backend]
    record.save(out)
    if json:
        answer = {"wrote": str(out), "tensors": list(record.values), "source": whole.source}
        print(jsonlib.dumps({**answer, "wing": record.name, "precision": precision}))
        return
    print(
        f"wrote {out}: {len(record.values)} tensors of {whole.source}, {record.name}, {precision}"
    )


def compare(
    a: Annotated[Path, tyro.conf.arg(metavar="A")],
    b: Annotated[Path, tyro.conf.arg(metavar="B")],
    json: bool = False,
) -> int:
    """Compare two traces; exit with 0 where every tensor agrees, else with 1.

    Args:
        a: A file of `python -m parity trace`.
        b: Another, of the same network, batch and precision.
        json: Print one JSON object instead of a table.
    """
    one, other = recording.load(a), recording.load(b)
    recording.refuse_unlike(one, other)
    precision = one.request["precision"]
    tolerances = RUNGS[2].tolerance(precision), RUNGS[3].tolerance(precision)
    if json:
        answer = plain(one, other, tolerances)
        print(jsonlib.dumps(answer, indent=1))
        return 0 if answer["agree"] else 1
    return 0 if show_traces(one, other, tolerances) else 1


def _subject(run: str | None, preset: str | None, seed: int, batch: int) -> Subject:
    if run is not None and preset is not None:
        raise TwincapsError(f"got both a run, {run}, and --preset {preset}; expected one of them")
    if run is not None:
        return subject.from_saved(run, seed=seed, batch=batch)
    return subject.from_preset(preset or "small", seed=seed, batch=batch)


def _numbers(rungs: str) -> list[int]:
    try:
        return [int(number) for number in rungs.split(",")]
    except ValueError as error:
        raise TwincapsError(f"--rungs {rungs}; expected numbers like 0,1,2") from error
