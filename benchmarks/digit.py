"""Section "digit": the digit layer alone, as public code writes it and as ours does."""

from typing import Any

from benchmarks.report import Table, cell, ratio_table, timings
from benchmarks.rounds import Bench, Case, Spread, ratio
from benchmarks.scale import Scale
from parity.spec import to_dict

# column of the tables -> wing, variant of the layer
VARIANTS = {
    "textbook": ("torch", "textbook"),
    "torch plain": ("torch", "plain"),
    "torch plain compiled": ("torch", "plain compiled"),
    "torch lean": ("torch", "lean"),
    "torch lean compiled": ("torch", "lean compiled"),
    "JAX plain": ("jax", "plain"),
    "JAX lean": ("jax", "lean"),
}


def cases(scale: Scale, batch: int, inputs: int, num_iters: int, backward: bool) -> dict[str, Case]:
    """Every variant of the layer at one size."""
    sizes = {
        "spec": to_dict(scale.spec),
        "batch": batch,
        "inputs": inputs,
        "num_iters": num_iters,
        "backward": backward,
    }
    return {
        name: Case(wing, "digit", {"variant": variant, **sizes})
        for name, (wing, variant) in VARIANTS.items()
    }


def measure(bench: Bench) -> dict[str, Any]:
    scale, groups = bench.scale, []
    for backward in (False, True):
        for batch in scale.batches:
            for num_iters in scale.iterations:
                what = {"batch": batch, "num_iters": num_iters, "backward": backward}
                bench.say(f"digit: {what}")
                found = cases(scale, inputs=scale.spec.num_inputs, **what)
                groups.append({"what": what, "timings": bench.measure(found)})
    middle = scale.iterations[len(scale.iterations) // 2]
    quoted = {"batch": max(scale.batches), "num_iters": middle, "backward": True}
    return {"inputs": scale.spec.num_inputs, "quoted": quoted, "groups": groups}


def tables(record: dict[str, Any]) -> list[Table]:
    titles = {False: "forward", True: "forward + backward"}
    found = [_times(record, title, backward) for backward, title in titles.items()]
    return [*found, _ratios(record)]


def _times(record: dict[str, Any], title: str, backward: bool) -> Table:
    rows = []
    for group in record["groups"]:
        what, times = group["what"], timings(group)
        if what["backward"] == backward:
            cells = [cell(times[name], 1e3) for name in VARIANTS]
            rows.append([str(what["batch"]), str(what["num_iters"]), *cells])
    header = ["batch", "r", *VARIANTS]
    notes = [f"{record['inputs']:,} input capsules; the variants of a row took turns."]
    return Table(f"The digit layer, {title}, in milliseconds", header, rows, notes)


def _ratios(record: dict[str, Any]) -> Table:
    quoted = record["quoted"]
    times = timings(next(each for each in record["groups"] if each["what"] == quoted))

    def over(above: str, below: str) -> Spread | None:
        return ratio(times[above], times[below])

    rows = [
        ("textbook / torch lean compiled", over("textbook", "torch lean compiled"), "12"),
        ("torch plain / lean compiled", over("torch plain", "torch lean compiled"), "3.5"),
        ("torch plain / lean", over("torch plain", "torch lean"), "2"),
        ("JAX plain / lean", over("JAX plain", "JAX lean"), "2.5"),
        ("textbook / torch plain", over("textbook", "torch plain"), ""),
        ("JAX lean / torch lean compiled", over("JAX lean", "torch lean compiled"), ""),
    ]
    asked = [(name, each, f"at least {least}" if least else "") for name, each, least in rows]
    return ratio_table(
        f"The digit layer, batch {quoted['batch']}, r = {quoted['num_iters']}, "
        "forward + backward, compared",
        asked,
    )
