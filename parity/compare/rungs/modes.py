"""Rungs 7 and 8: each wing in its other modes, and on a GPU."""

import dataclasses
import importlib
import os
import shutil
from collections.abc import Mapping

from parity.compare.climb import SKIPPED, Climb, Row
from parity.compare.rungs import GPU_STEPS
from parity.compare.rungs.moments import gradients
from parity.compare.rungs.trajectories import along
from parity.export import build
from parity.reference import lengths
from parity.spec import BACKENDS
from parity.traces.first import first_difference
from parity.traces.measure import differences
from parity.weights import Arrays, table


def in_modes(climb: Climb) -> list[Row]:
    """Rung 7: each wing's other modes (compiled, eager, lean, exported) against its usual one."""
    rows = []
    plain = climb.pair.ask("mode")
    if "compiled" in climb.modes:
        rows.append(_compiled(climb, plain["torch"].arrays))
    if "eager" in climb.modes:
        slow = climb.pair.trace_each({"jax": {"mode": "eager"}})["jax"]
        usual = climb.traces["jax"]
        found = differences(usual.values, slow.values) | gradients(usual, slow)
        rows.append(climb.row(7, "jax eager against jit", found))
    if "lean" in climb.modes:
        lean = climb.pair.ask("mode", lean=True)
        for wing, answer in lean.items():
            found = _in_order(climb, plain[wing].arrays, answer.arrays)
            rows.append(climb.row(7, f"{wing} lean against plain", found))
    if "exported" in climb.modes:
        rows += _exported(climb, {wing: answer.arrays for wing, answer in plain.items()})
    return rows


def _exported(climb: Climb, plain: Mapping[str, Arrays]) -> list[Row]:
    """A third witness: the exported graph, by the operators of ONNX's own reference in NumPy."""
    what = "exported ONNX graph against {}"
    try:
        evaluator = importlib.import_module("onnx.reference").ReferenceEvaluator
    except ImportError:
        why = "onnx is not installed here; pip install 'twincaps[onnx]'"
        what = what.format("plain")
        return [Row(7, climb.precision, what, verdict=SKIPPED, why=why)]
    subject, names = climb.subject, ["poses", "scores"]
    model = build(subject.spec, subject.cast(climb.precision), dtype=climb.precision)
    images, _ = subject.at(0)
    outputs = evaluator(model).run(names, {"images": images.astype(climb.precision)})
    graph = dict(zip(names, outputs, strict=True))
    rows = []
    for wing, arrays in plain.items():
        usual = {"poses": arrays["poses"], "scores": lengths(arrays["poses"])}
        rows.append(climb.row(7, what.format(wing), differences(graph, usual)))
    return rows


def _compiled(climb: Climb, plain: Arrays) -> Row:
    what = "torch compiled, lean, against plain"
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        why = f"torch.compile needs a C++ compiler, and there is no {compiler}"
        return Row(7, climb.precision, what, verdict=SKIPPED, why=why)
    asked = {"torch": {"compile": True, "lean": True}}
    compiled = climb.pair.ask_each("mode", asked)["torch"].arrays
    row = climb.row(7, what, _in_order(climb, plain, compiled))
    if not row.fails:
        return row
    traced = climb.pair.trace_each({"torch": {"mode": "compiled"}})["torch"]
    first = first_difference(climb.traces["torch"], traced, row.tolerance)
    return dataclasses.replace(row, first=str(first or row.first))


def _in_order(climb: Climb, plain: Arrays, other: Arrays) -> dict[str, float]:
    """The differences of two modes, in the order of execution.

    Forward, then gradients from the last parameter to the first, as the backward pass goes.
    """
    rows = reversed(table(climb.subject.spec).items())
    slopes = [f"gradient/{name}" for name, row in rows if row.trained and not row.free]
    return differences(plain, other, ("poses", "loss", *slopes))


def on_gpu(cpu: Climb, gpu: Climb) -> list[Row]:
    """Rung 8: both wings on a GPU against each other, and each against itself on the CPU."""
    pairs = {"torch against jax": (gpu.traces["torch"], gpu.traces["jax"])}
    for wing in BACKENDS:
        pairs[f"{wing} on GPU against CPU"] = gpu.traces[wing], cpu.traces[wing]
    rows = []
    for what, (a, b) in pairs.items():
        rows.append(gpu.row(8, f"forward, {what}", differences(a.values, b.values)))
        rows.append(gpu.row(8, f"gradients, {what}", gradients(a, b)))
    answers = gpu.pair.ask("run", optimizer="sgd", first=0, last=GPU_STEPS)
    rows.append(
        gpu.row(8, f"{GPU_STEPS} sgd steps, torch against jax", along(answers, cpu.subject.spec))
    )
    return rows
