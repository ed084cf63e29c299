"""Section "growth": how the time of the digit layer grows with the number of input capsules."""

from typing import Any

from benchmarks import machine
from benchmarks.digit import cases
from benchmarks.memory import needed
from benchmarks.report import Table, cell, timings
from benchmarks.rounds import Bench, Timing
from benchmarks.scale import Scale

VARIANTS = ("torch plain", "torch lean", "torch lean compiled", "JAX plain", "JAX lean")


def measure(bench: Bench) -> dict[str, Any]:
    scale, groups = bench.scale, []
    num_iters = scale.spec.routing.options["num_iters"]
    for inputs in scale.inputs:
        bench.say(f"growth: {inputs} input capsules")
        found = cases(scale, scale.batch, inputs, num_iters, True)
        chosen = {name: found[name] for name in VARIANTS if _fits(scale, name, inputs)}
        missing = {name: Timing(missing="does not fit") for name in VARIANTS if name not in chosen}
        groups.append({"what": {"inputs": inputs}, "timings": bench.measure(chosen) | missing})
    return {"batch": scale.batch, "num_iters": num_iters, "groups": groups}


def _fits(scale: Scale, name: str, inputs: int) -> bool:
    # Both workers may hold a layer of this size at once.
    variant = name.split(" ")[1]
    return needed(variant, scale.spec, scale.batch, inputs) < machine.memory_available() / 2


def tables(record: dict[str, Any]) -> list[Table]:
    rows = []
    for group in record["groups"]:
        times = timings(group)
        cells = [cell(times[name], 1e3) for name in VARIANTS]
        rows.append([f"{group['what']['inputs']:,}", *cells])
    title = (
        f"The digit layer, batch {record['batch']}, r = {record['num_iters']}, forward + "
        "backward, in milliseconds"
    )
    notes = ["A dash stands where the votes would not fit into the memory that was free."]
    return [Table(title, ["input capsules", *VARIANTS], rows, notes)]
