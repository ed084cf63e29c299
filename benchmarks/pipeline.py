"""Section "input": how long a training waits for its batches."""

from typing import Any

from benchmarks.report import Table, cell, number, ranged, timings
from benchmarks.rounds import Bench, Case, seconds, spread
from parity.spec import to_dict


def measure(bench: Bench) -> dict[str, Any]:
    scale = bench.scale
    sizes = {"spec": to_dict(scale.spec), "batch": scale.batch, "steps": scale.steps}
    cases = {
        "torch": Case("torch", "loop", sizes),
        "JAX": Case("jax", "loop", sizes),
        "batches alone": Case("torch", "batches", sizes),
    }
    settings = {"batch": scale.batch, "steps": scale.steps}
    return {**settings, "groups": [{"timings": bench.measure(cases)}]}


def tables(record: dict[str, Any]) -> list[Table]:
    times, steps = timings(record["groups"][0]), record["steps"]
    rows = []
    for name in ("torch", "JAX"):
        more = times[name].more
        if more:
            shares = spread(more["waiting"])
            rows.append([name, ranged(spread(more["step"])), f"{ranged(shares, 100)} %"])
        else:
            rows.append([name, cell(times[name]), "-"])
    alone = seconds(times["batches alone"])
    rate = "-" if alone is None else number(record["batch"] * steps / alone.median)
    rows.append(["making batches alone", cell(times["batches alone"], 1 / steps), ""])
    notes = [
        f"An epoch of {steps} steps of {record['batch']} images through parity.loop. Making "
        f"batches alone, without a thread of its own, goes at {rate} images/s."
    ]
    return [Table("Waiting for input", ["", "seconds a step", "of it waiting"], rows, notes)]
