"""Rung 8 of the ladder on a machine with CUDA, what TF32 and bfloat16 change, noise and speed.

    make gpu PYTHON=python3        or        python3 -m benchmarks.gpu

It needs that machine's own PyTorch, JAX, flax and optax, with numpy, safetensors, ml_dtypes and
rich; nothing is installed and nothing fetched. Writes docs/gpu/<card>.md and .json, in which other
networks stay as they were. Ends with 1 where rung 8 does not hold, with 2 where it cannot be
compared.
"""

import argparse
import contextlib
import dataclasses
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_page import page
from parity import compare
from parity.compare import show, subject, wings
from parity.compare.comparison import SKIPPED
from parity.compare.rungs import GPU_STEPS
from parity.spec import PRESETS, TwincapsError
from parity.traces.measure import differences, worst

OUT = Path(__file__).resolve().parent.parent / "docs" / "gpu"
USUAL = ("small", "sabour2017", "efficient")

# What a step is timed in: precision of the network, whether TF32, options of the Trainer.
MODES: dict[str, tuple[str, bool, dict[str, bool]]] = {
    "float32": ("float32", False, {}),
    "float32, compiled": ("float32", False, {"compile": True}),
    "float32, plain routing": ("float32", False, {"lean": False}),
    "TF32": ("float32", True, {}),
    "TF32, compiled": ("float32", True, {"compile": True}),
    "bfloat16": ("bfloat16", False, {}),
    "bfloat16, compiled": ("bfloat16", False, {"compile": True}),
}


@dataclasses.dataclass(frozen=True)
class Bench:
    """What is measured, and where: `device` is cuda, or cpu to see that all of this runs."""

    whole: compare.Subject
    device: str
    batch: int
    steps: int
    modes: Sequence[str] = tuple(MODES)
    ladder_alone: bool = False

    @contextlib.contextmanager
    def pair(self, precision: str, tf32: bool = False) -> Iterator[wings.Pair]:
        """Both wings, each in a process of its own."""
        with (
            tempfile.TemporaryDirectory() as folder,
            wings.pair(self.whole, precision, Path(folder), device=self.device) as made,
        ):
            if tf32:
                made.ask("relax")
            yield made


def ladder(bench: Bench) -> compare.Report:
    """Rung 8 in both precisions, everything of it printed."""
    report = compare.ladder(bench.whole, rungs=(8,), gpu=bench.device, keep_going=True)
    show.show(report)
    if all(row.verdict == SKIPPED for row in report.rows):
        raise TwincapsError(f"rung 8 cannot be compared: {report.rows[0].why}")
    return report


def apart(a: compare.Trace, b: compare.Trace) -> dict[str, Any]:
    """The largest difference forward and backward, and where."""
    found = {}
    for kind in ("values", "gradients"):
        name, far = worst(differences(getattr(a, kind), getattr(b, kind)))
        found[kind] = _far(name, far)
    return found


def _far(name: str, far: float) -> dict[str, Any]:
    """A tensor and its difference, null where that is infinite: JSON knows no infinity."""
    return {"tensor": name if far else "", "difference": far if np.isfinite(far) else None}


def reduced(bench: Bench) -> dict[str, Any]:
    """What TF32 and bfloat16 change: between the wings, and in each against strict float32."""
    with bench.pair("float32") as strict:
        plain = strict.trace()
    found = {"float32": {"torch against jax": apart(plain["torch"], plain["jax"])}}
    for name in ("TF32", "bfloat16"):
        precision, tf32, _ = MODES[name]
        with bench.pair(precision, tf32) as rounded:
            traces = rounded.trace()
        found[name] = {"torch against jax": apart(traces["torch"], traces["jax"])}
        for wing, trace in traces.items():
            found[name][f"{wing} against its float32"] = apart(trace, plain[wing])
    return found


def noise(bench: Bench) -> dict[str, Any]:
    """How far each wing is from itself: again in one process, in another one, and after steps."""
    with bench.pair("float32") as first, bench.pair("float32") as second:
        one, again, other = first.trace(), first.trace(), second.trace()
        steps = {"optimizer": "sgd", "first": 0, "last": GPU_STEPS}
        runs = [pair.ask("run", **steps) for pair in (first, first, second)]
    found = {}
    for wing in one:
        ended = [run[wing].arrays for run in runs]
        found[wing] = {
            "a trace, twice in one process": apart(one[wing], again[wing]),
            "a trace, in two processes": apart(one[wing], other[wing]),
            f"{GPU_STEPS} steps, twice in one process": _ends(ended[0], ended[1]),
            f"{GPU_STEPS} steps, in two processes": _ends(ended[0], ended[2]),
        }
    return found


def _ends(a: Any, b: Any) -> dict[str, Any]:
    return {"values": _far(*worst(differences(a, b)))}


def speed(bench: Bench) -> dict[str, Any]:
    """Images a second of whole training steps, one wing at a time: the median step."""
    found: dict[str, Any] = {name: {} for name in bench.modes}
    for precision, tf32 in dict.fromkeys(MODES[name][:2] for name in bench.modes):
        with bench.pair(precision, tf32) as pair:  # one for all modes of these numerics
            for name in bench.modes:
                if MODES[name][:2] == (precision, tf32):
                    found[name] = _speed(bench, pair, MODES[name][2])
                    print(name, found[name], flush=True)
    return found


def _speed(bench: Bench, pair: wings.Pair, how: dict[str, bool]) -> dict[str, Any]:
    """Images a second of each wing in one mode, or why there are none."""
    told: dict[str, Any] = {}
    for wing in pair.handles:
        if wing == "jax" and "compile" in how:  # it always is
            continue
        asked = {"batch": bench.batch, "steps": bench.steps, **how}
        try:
            seconds = pair.ask_each("speed", {wing: asked})[wing].arrays["seconds"]
        except wings.WingError as error:
            told[wing] = str(error)
        else:
            told[wing] = round(bench.batch / float(np.median(seconds)), 1)
    return told


def measure(bench: Bench) -> dict[str, Any]:
    """All of one network, or rung 8 alone, as plain JSON."""
    measured: dict[str, Any] = {"ladder": ladder(bench).as_dict()}
    if not bench.ladder_alone:
        measured |= {"reduced": reduced(bench), "noise": noise(bench)}
        measured |= {"images a second": speed(bench), "batch": bench.batch}
    return json.loads(json.dumps(measured, allow_nan=False))


def card(measured: dict[str, Any], device: str) -> str:
    """The name of the card, as torch reads it."""
    environment = measured["ladder"]["environment"]
    return next(
        told["device"] for name, told in environment.items() if re.match(rf"torch.* {device}", name)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; see the top of this file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    usual = f"repeatable (default: {', '.join(USUAL)})"
    parser.add_argument("--preset", action="append", choices=PRESETS, metavar="NAME", help=usual)
    parser.add_argument("--ladder", action="store_true", help="rung 8 alone")
    parser.add_argument("--device", default="cuda", help="cpu: to see that all of this runs")
    parser.add_argument("--batch", type=int, default=128, help="images of a timed step")
    parser.add_argument("--steps", type=int, default=30, help="timed steps")
    parser.add_argument("--eager", action="store_true", help="no torch.compile: a minute less")
    parser.add_argument("--out", type=Path, default=OUT, help="the folder to write to")
    asked = parser.parse_args(argv)
    modes = [name for name, (_, _, how) in MODES.items() if not (asked.eager and "compile" in how)]
    began, networks = time.monotonic(), {}
    try:
        for preset in asked.preset or USUAL:
            whole = subject.from_preset(preset)
            how = asked.device, asked.batch, asked.steps, modes, asked.ladder
            networks[preset] = measure(Bench(whole, *how))
    except TwincapsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    path = write(networks, asked.device, asked.out, time.monotonic() - began)
    print(f"wrote {path} and {path.with_suffix('.json')}")
    return 0 if all(each["ladder"]["holds"] for each in networks.values()) else 1


def write(networks: dict[str, Any], device: str, out: Path, seconds: float) -> Path:
    """The page of a card and its figures, beside those of other networks; returns its path."""
    name = card(next(iter(networks.values())), device)
    path = out / (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ".md")
    out.mkdir(parents=True, exist_ok=True)
    figures = path.with_suffix(".json")
    before = json.loads(figures.read_text())["networks"] if figures.exists() else {}
    networks = before | {key: before.get(key, {}) | new for key, new in networks.items()}
    path.write_text(page(name, networks, seconds))
    whole = {"card": name, "seconds": round(seconds), "networks": networks}
    figures.write_text(json.dumps(whole, indent=1) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
