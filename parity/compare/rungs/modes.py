"""Rungs 7 and 8: each wing in its other modes, and on a GPU."""

import dataclasses
import importlib
import os
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from parity.compare.comparison import SKIPPED, Comparison, Row
from parity.compare.decisions import alike
from parity.compare.rungs import GPU_STEPS, RUNGS
from parity.compare.rungs.single_step import gradients
from parity.compare.rungs.trajectories import along
from parity.export import build
from parity.export.model import ungraphed
from parity.spec import BACKENDS
from parity.traces.first import first_difference
from parity.traces.measure import differences
from parity.traces.recording import Trace
from parity.weights import Arrays, table


def in_modes(comparison: Comparison) -> list[Row]:
    """Rung 7: each wing compiled, eager, lean, by Fourier, exported, against its usual mode."""
    rows = []
    plain = comparison.pair.ask("mode")
    if "compiled" in comparison.modes:
        rows.append(_compiled(comparison, plain["torch"].arrays))
    if "eager" in comparison.modes:
        slow = comparison.pair.trace_each({"jax": {"mode": "eager"}})["jax"]
        usual = comparison.traces["jax"]
        distances = differences(usual.values, slow.values) | gradients(usual, slow)
        rows.append(comparison.row(7, "jax eager against jit", distances))
    if "lean" in comparison.modes:
        lean = comparison.pair.ask("mode", lean=True)
        for wing, answer in lean.items():
            distances = _in_order(comparison, plain[wing].arrays, answer.arrays)
            rows.append(comparison.row(7, f"{wing} lean against plain", distances))
    if "fourier" in comparison.modes:
        fourier = comparison.pair.ask("mode", convolution="fourier")
        for wing, answer in fourier.items():
            distances = _in_order(comparison, plain[wing].arrays, answer.arrays)
            what = f"{wing} Fourier convolution against direct"
            row = comparison.row(7, what, distances)
            how = {"convolution": "fourier"}
            rows.append(_alike(comparison, wing, row, how, how))
    if "exported" in comparison.modes:
        rows += _exported(comparison, {wing: answer.arrays for wing, answer in plain.items()})
    return rows


def _exported(comparison: Comparison, plain: Mapping[str, Arrays]) -> list[Row]:
    """A third witness: the exported graph, by the operators of ONNX's own reference in NumPy."""
    what = "exported ONNX graph against {}"
    try:
        evaluator = importlib.import_module("onnx.reference").ReferenceEvaluator
    except ImportError:
        why = "onnx is not installed here; pip install 'twincaps[onnx]'"
        what = what.format("plain")
        return [Row(7, comparison.precision, what, verdict=SKIPPED, why=why)]
    subject = comparison.subject
    if why := ungraphed(subject.spec):
        return [Row(7, comparison.precision, what.format("plain"), verdict=SKIPPED, why=why)]
    model = build(subject.spec, subject.cast(comparison.precision), dtype=comparison.precision)
    # Class capsules without poses have scores alone.
    names = [each.name for each in model.graph.output if each.name != "reconstruction"]
    images, _ = subject.at(0)
    outputs = evaluator(model).run(names, {"images": images.astype(comparison.precision)})
    graph = dict(zip(names, outputs, strict=True))
    rows = []
    for wing, arrays in plain.items():
        usual = {name: arrays[name] for name in names}
        rows.append(comparison.row(7, what.format(wing), differences(graph, usual)))
    return rows


def _compiled(comparison: Comparison, plain: Arrays) -> Row:
    what = "torch compiled, lean, against plain"
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        why = f"torch.compile needs a C++ compiler, and there is no {compiler}"
        return Row(7, comparison.precision, what, verdict=SKIPPED, why=why)
    asked = {"compile": True, "lean": True}
    compiled = comparison.pair.ask_each("mode", {"torch": asked})["torch"].arrays
    row = comparison.row(7, what, _in_order(comparison, plain, compiled))
    row = _alike(comparison, "torch", row, {"mode": "compiled"}, asked)
    if not row.fails:
        return row
    traced = comparison.pair.trace_each({"torch": {"mode": "compiled"}})["torch"]
    first = first_difference(comparison.traces["torch"], traced, row.tolerance)
    return dataclasses.replace(row, first=str(first or row.first))


def _alike(
    comparison: Comparison,
    wing: str,
    row: Row,
    traced: Mapping[str, Any],
    asked: Mapping[str, Any],
) -> Row:
    """The row, or where it fails that of a batch whose relus decide alike in both modes.

    Args:
        comparison: Of the row.
        wing: Whose mode it is.
        row: As the subject's own batch gave it.
        traced: What the task `trace` is told of the other mode.
        asked: What the task `mode` is told of it.
    """
    if not row.fails:
        return row
    pair = comparison.pair

    def trace(brighter: int) -> tuple[Trace, Trace]:
        modes = ({"brighter": brighter, **each} for each in ({}, traced))
        usual, other = (pair.trace_each({wing: each})[wing] for each in modes)
        return usual, other

    # What is compared is a Trainer's step, a program of its own: it rounds otherwise than a trace.
    near = float(np.finfo(comparison.precision).eps)
    decided = alike(trace, RUNGS[2].tolerance(comparison.precision), near)
    if not decided.brighter:
        return dataclasses.replace(row, why=decided.note)
    modes = ({"brighter": decided.brighter, **each} for each in ({}, asked))
    usual, other = (pair.ask_each("mode", {wing: each})[wing].arrays for each in modes)
    return comparison.row(7, row.what, _in_order(comparison, usual, other), decided.note)


def _in_order(comparison: Comparison, plain: Arrays, other: Arrays) -> dict[str, float]:
    """The differences of two modes, in the order of execution.

    Forward, then gradients from the last parameter to the first, as the backward pass goes.
    """
    rows = reversed(table(comparison.subject.spec).items())
    slopes = [f"gradient/{name}" for name, row in rows if row.trained and not row.free]
    return differences(plain, other, ("poses", "loss", *slopes))


def on_gpu(cpu: Comparison, gpu: Comparison) -> list[Row]:
    """Rung 8: the two wings on a GPU, and each against itself on the CPU.

    Gradients are compared at a batch where relus decide alike, as in rung 3.
    """

    def traced(side: tuple[Comparison, str], brighter: int) -> Trace:
        comparison, wing = side
        if brighter == 0:
            return comparison.traces[wing]
        return comparison.pair.trace_each({wing: {"brighter": brighter}})[wing]

    pairs = {"torch against jax": ((gpu, "torch"), (gpu, "jax"))}
    for wing in BACKENDS:
        pairs[f"{wing} on GPU against CPU"] = (gpu, wing), (cpu, wing)
    rows = []
    for what, (one, other) in pairs.items():

        def pair(brighter: int, sides: Any = (one, other)) -> tuple[Trace, Trace]:
            return traced(sides[0], brighter), traced(sides[1], brighter)

        own, decided = pair(0), alike(pair, RUNGS[2].tolerance(gpu.precision))
        rows.append(gpu.row(8, f"forward, {what}", differences(own[0].values, own[1].values)))
        rows.append(gpu.row(8, f"gradients, {what}", gradients(*decided.traces), decided.note))
    answers = gpu.pair.ask("run", optimizer="sgd", first=0, last=GPU_STEPS)
    rows.append(
        gpu.row(8, f"{GPU_STEPS} sgd steps, torch against jax", along(answers, cpu.subject.spec))
    )
    return rows
