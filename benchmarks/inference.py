"""Section "inference": an evaluation of many images, beside its convolutions alone."""

from typing import Any

from benchmarks.report import Table, cell, ranged, rate, ratio_table, timings
from benchmarks.rounds import Bench, Case, Spread, ratio
from parity.spec import to_dict

WINGS = {"torch": "torch", "JAX": "jax"}


def measure(bench: Bench) -> dict[str, Any]:
    scale = bench.scale
    sizes = {"spec": to_dict(scale.spec), "batch": scale.batch, "images": scale.images}
    cases = {
        f"{name} {kind}": Case(wing, kind, sizes)
        for name, wing in WINGS.items()
        for kind in ("evaluate", "convolutions")
    }
    settings = {"batch": scale.batch, "images": scale.images}
    return {**settings, "groups": [{"timings": bench.measure(cases)}]}


def tables(record: dict[str, Any]) -> list[Table]:
    times, images = timings(record["groups"][0]), record["images"]
    rows = [[name, cell(each), ranged(rate(each, images))] for name, each in times.items()]
    notes = [
        f"{images:,} images a round in batches of {record['batch']}. The convolutions are the "
        "network's, forward, on as many batches; an evaluation also makes its batches."
    ]

    def over(above: str, below: str) -> Spread | None:
        return ratio(times[above], times[below])

    compared = [
        ("torch, convolutions / evaluation", over("torch convolutions", "torch evaluate"), "0.7"),
        ("JAX, convolutions / evaluation", over("JAX convolutions", "JAX evaluate"), ""),
        ("JAX / torch, evaluation", over("JAX evaluate", "torch evaluate"), "at most 1.5"),
    ]
    asked = [(name, each, f"at least {a}" if a == "0.7" else a) for name, each, a in compared]
    header = ["", "seconds", "images/s"]
    return [
        Table("Evaluation", header, rows, notes),
        ratio_table("Evaluation compared", asked),
    ]
