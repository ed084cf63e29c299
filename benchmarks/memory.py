"""Section "memory": how far the digit layer drives the resident memory of a process of its own."""

import json
import subprocess
from typing import Any

from benchmarks import machine
from benchmarks.report import Table
from benchmarks.rounds import Bench
from benchmarks.scale import Scale
from benchmarks.workers import ROOT, command, environment
from parity.spec import NetworkSpec, to_dict

MIB = 2**20
# row of the table -> wing, variant of the layer
VARIANTS = {
    "textbook": ("torch", "textbook"),
    "torch plain": ("torch", "plain"),
    "torch lean": ("torch", "lean"),
    "torch lean compiled": ("torch", "lean compiled"),
    "JAX plain": ("jax", "plain"),
    "JAX lean": ("jax", "lean"),
}


def votes_bytes(spec: NetworkSpec, batch: int, inputs: int) -> float:
    """Of the votes in float32."""
    return 4.0 * batch * inputs * spec.classes * spec.pose


def needed(variant: str, spec: NetworkSpec, batch: int, inputs: int) -> float:
    """Bytes, guessed high, of forward and backward; nothing is started that would not fit."""
    votes = votes_bytes(spec, batch, inputs)
    kernels = 4.0 * 2 * batch * inputs * spec.classes * spec.pose * spec.primary.size
    return {"textbook": 5 * votes + kernels, "plain": 5 * votes}.get(variant, votes)


def measure(bench: Bench) -> dict[str, Any]:
    scale, rows = bench.scale, []
    for inputs in scale.memory_inputs:
        for num_iters in scale.memory_iterations:
            for name in VARIANTS:
                rows.append(_row(bench, name, inputs, num_iters, "digit"))
    largest, num_iters = max(scale.memory_inputs), scale.spec.routing.options["num_iters"]
    for name in ("torch lean", "torch lean compiled", "JAX lean"):
        rows.append(_row(bench, name, largest, num_iters, "digit_step"))
    votes = {str(each): votes_bytes(scale.spec, scale.batch, each) for each in scale.memory_inputs}
    return {"batch": scale.batch, "votes": votes, "rows": rows}


def _row(bench: Bench, name: str, inputs: int, num_iters: int, kind: str) -> dict[str, Any]:
    wing, variant = VARIANTS[name]
    bench.say(f"memory: {name}, {inputs} input capsules, r = {num_iters}, {kind}")
    what = {"name": name, "inputs": inputs, "num_iters": num_iters, "kind": kind}
    free = machine.memory_available()
    if needed(variant, bench.scale.spec, bench.scale.batch, inputs) > 0.75 * free:
        return {**what, "missing": "does not fit"}
    return {**what, **peak(bench, wing, variant, inputs, num_iters, kind)}


def peak(
    bench: Bench, wing: str, variant: str, inputs: int, num_iters: int, kind: str
) -> dict[str, Any]:
    """What a process of its own tells: bytes of `growth`, `beyond` its inputs, `temporaries`."""
    sizes = job(bench.scale, variant, inputs, num_iters)
    result = subprocess.run(
        command("peak", wing, kind, json.dumps(sizes)),
        cwd=ROOT,
        env=environment(bench.pool.folder.name),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        return {"missing": f"ended with code {result.returncode}", "failed": True}
    return json.loads(result.stdout)


def job(scale: Scale, variant: str, inputs: int, num_iters: int) -> dict[str, Any]:
    """The arguments of a digit layer of the wing's cases."""
    sizes = {"spec": to_dict(scale.spec), "batch": scale.batch}
    return {"variant": variant, **sizes, "inputs": inputs, "num_iters": num_iters}


def _mib(row: dict[str, Any] | None, what: str = "growth") -> str:
    found = (row or {}).get(what)
    if row is not None and row.get("failed"):
        return "failed"
    return "-" if found is None else f"{found / MIB:,.0f}"


def find(record: dict[str, Any], name: str, inputs: int, num_iters: int) -> dict[str, Any] | None:
    """The row of forward and backward of a variant, at a size."""
    wanted = {"name": name, "inputs": inputs, "num_iters": num_iters, "kind": "digit"}
    rows = (row for row in record["rows"] if wanted.items() <= row.items())
    return next(rows, None)


def tables(record: dict[str, Any]) -> list[Table]:
    digit = [row for row in record["rows"] if row["kind"] == "digit"]
    sizes = list(dict.fromkeys((row["inputs"], row["num_iters"]) for row in digit))
    rows = []
    for inputs, num_iters in sizes:
        at = {name: find(record, name, inputs, num_iters) for name in VARIANTS}
        planned = [_mib(at[name], "temporaries") for name in ("JAX plain", "JAX lean")]
        votes = f"{record['votes'][str(inputs)] / MIB:,.0f}"
        rows.append([f"{inputs:,}", str(num_iters), votes, *map(_mib, at.values()), *planned])
    header = ["input capsules", "r", "votes", *VARIANTS, "XLA's plan, plain", "XLA's plan, lean"]
    notes = [
        "Growth of the resident memory to its highest, over a process warmed on a small layer: "
        "inputs, kernel, their gradients and the compiler included. A dash stands for what would "
        "not fit into the memory that was free. XLA's plan is the temporaries of its memory "
        "analysis.",
    ]
    title = f"Memory of the digit layer, batch {record['batch']}, forward + backward, in MiB"
    return [Table(title, header, rows, notes), _ratios(record, sizes), _steps(record)]


def _ratios(record: dict[str, Any], sizes: list[tuple[int, int]]) -> Table:
    iterations = sorted({num_iters for _, num_iters in sizes})
    rows = []
    for inputs in sorted({inputs for inputs, _ in sizes}):
        for name in ("torch lean", "torch lean compiled", "JAX lean"):
            plain = find(record, f"{name.split(' ')[0]} plain", inputs, iterations[0])
            few, many = (find(record, name, inputs, r) for r in (iterations[0], iterations[-1]))
            rows.append([f"{inputs:,}", name, _over(plain, few), _over(many, few)])
    header = [
        "input capsules",
        "",
        f"plain / lean, r = {iterations[0]}",
        f"r = {iterations[-1]} / r = {iterations[0]}",
    ]
    notes = ["Asked for: plain at least 6 times lean at 9,216 input capsules; r within 10 %."]
    return Table("Memory of the digit layer compared", header, rows, notes)


def _over(above: dict[str, Any] | None, below: dict[str, Any] | None) -> str:
    a, b = ((each or {}).get("growth") for each in (above, below))
    return f"{a / b:.2f}" if a and b else "-"


def _steps(record: dict[str, Any]) -> Table:
    steps = [row for row in record["rows"] if row["kind"] == "digit_step"]
    rows = [
        [row["name"], f"{row['inputs']:,}", str(row["num_iters"]), _mib(row), _mib(row, "beyond")]
        for row in steps
    ]
    header = ["", "input capsules", "r", "growth", "beyond inputs and weights"]
    notes = ["Asked for: within 2 GB at 36,864 input capsules, batch 128."]
    return Table(
        "Memory of a training step of the digit layer (forward, backward, Adam), in MiB",
        header, rows, notes,
    )  # fmt: skip
