"""Section "step": a whole training step, beside what the machine could do at most."""

from typing import Any

from benchmarks import flops
from benchmarks.report import Table, cell, number, ranged, rate, ratio_table, timings
from benchmarks.rounds import Bench, Case, Spread, Timings, ratio, seconds
from benchmarks.scale import Scale
from parity.spec import NetworkSpec, from_dict, to_dict

PRECISIONS = ("float32", "bfloat16")
# name of a whole step -> wing, precision, torch.compile
STEPS = {
    "torch float32": ("torch", "float32", False),
    "torch float32 compiled": ("torch", "float32", True),
    "JAX float32": ("jax", "float32", False),
    "torch bfloat16": ("torch", "bfloat16", False),
    "torch bfloat16 compiled": ("torch", "bfloat16", True),
    "JAX bfloat16": ("jax", "bfloat16", False),
}
WINGS = {"torch": "torch", "JAX": "jax"}
# The fastest public code reached 108 images/s where the primary convolution, forward and
# backward, took 0.67 s a batch of 128: 72.4 images in the time of that convolution.
PUBLIC_IMAGES = 108 * 0.67


def cases(scale: Scale) -> dict[str, Case]:
    """Whole steps, the primary convolution and the machine's own rates, in one round robin."""
    sizes = {"spec": to_dict(scale.spec), "batch": scale.batch}
    found = {
        name: Case(wing, "step", {**sizes, "precision": precision, "compile": compiled})
        for name, (wing, precision, compiled) in STEPS.items()
    }
    for name, wing in WINGS.items():
        for precision in PRECISIONS:
            for backward in (False, True):
                how = {"precision": precision, "backward": backward}
                title = f"{name} convolution {precision}{' backward' * backward}"
                found[title] = Case(wing, "conv", {**sizes, **how})
            how = {"size": scale.product, "dtype": precision}
            found[f"{name} product {precision}"] = Case(wing, "product", how)
    found["copy"] = Case("torch", "copy", {"mib": scale.copy})
    return found


def measure(bench: Bench) -> dict[str, Any]:
    scale = bench.scale
    settings = {
        "spec": to_dict(scale.spec),
        "batch": scale.batch,
        "product": scale.product,
        "copy": scale.copy,
        "public": scale.name == "full",
    }
    return {**settings, "groups": [{"timings": bench.measure(cases(scale))}]}


def product_rate(times: Timings, precision: str, size: int) -> float | None:
    """Operations a second of the faster wing's matrix product, in the median."""
    found = [rate(times[f"{name} product {precision}"], 2.0 * size**3) for name in WINGS]
    return max((each.median for each in found if each), default=None)


def limit(times: Timings, record: dict[str, Any], precision: str) -> float | None:
    """Seconds of a step whose every product ran at the machine's rate of large ones."""
    fast = product_rate(times, precision, record["product"])
    exact = product_rate(times, "float32", record["product"])
    if fast is None or exact is None:
        return None
    counts = flops.step(from_dict(NetworkSpec, record["spec"]), record["batch"])
    # Routing stays in float32 where the rest is in bfloat16.
    return counts["digit"] / exact + (sum(counts.values()) - counts["digit"]) / fast


def tables(record: dict[str, Any]) -> list[Table]:
    times = timings(record["groups"][0])
    return [_steps(times, record), _machine(times, record), _ratios(times, record)]


def _steps(times: Timings, record: dict[str, Any]) -> Table:
    total = sum(flops.step(from_dict(NetworkSpec, record["spec"]), record["batch"]).values())
    rows = []
    for name, (_, precision, _) in STEPS.items():
        least, took = limit(times, record, precision), seconds(times[name])
        share = f"{least / took.median:.0%}" if least and took else "-"
        first = times[name].first
        rows.append(
            [
                name,
                cell(times[name]),
                ranged(rate(times[name], record["batch"])),
                ranged(rate(times[name], total / 1e9)),
                share,
                "-" if first is None else f"{first:.1f}",
            ]
        )
    header = ["training step", "seconds", "images/s", "GFLOP/s", "of the limit", "first step, s"]
    notes = [
        f"{number(total / 1e9)} GFLOP a step of {record['batch']} images, forward and backward, "
        "counted from the spec. The limit is a step whose every product runs at the rate of the "
        "large matrix products below. The first step includes building and compiling."
    ]
    return Table("A whole training step", header, rows, notes)


def _machine(times: Timings, record: dict[str, Any]) -> Table:
    spec = from_dict(NetworkSpec, record["spec"])
    forward = flops.forward(spec, record["batch"])["primary"]
    both = flops.step(spec, record["batch"])["primary"]
    amounts = {" product ": 2.0 * record["product"] ** 3, " convolution ": forward}
    rows = []
    for name, timing in times.items():
        amount = next((count for what, count in amounts.items() if what in name), None)
        if amount is not None:
            amount = both if name.endswith("backward") else amount
            label = name.replace(" backward", ", forward + backward")
            rows.append([label, cell(timing), f"{ranged(rate(timing, amount / 1e9))} GFLOP/s"])
    moved = 2 * record["copy"] * 2**20
    speed = ranged(rate(times["copy"], moved / 1e9))
    rows.append([f"copy of {record['copy']} MiB", cell(times["copy"]), f"{speed} GB/s"])
    notes = [f"Products are of two {record['product']} x {record['product']} matrices."]
    return Table("What the machine can do", ["", "seconds", "rate"], rows, notes)


def _ratios(times: Timings, record: dict[str, Any]) -> Table:
    def over(above: str, below: str) -> Spread | None:
        return ratio(times[above], times[below])

    rows = [
        ("JAX / torch, float32", over("JAX float32", "torch float32"), "at most 1.2"),
        ("JAX / torch, bfloat16", over("JAX bfloat16", "torch bfloat16"), ""),
        ("torch, eager / compiled", over("torch float32", "torch float32 compiled"), ""),
        (
            "torch, float32 / bfloat16",
            over("torch float32", "torch bfloat16"),
            "at least 1.7 with AMX",
        ),
        (
            "torch compiled, float32 / bfloat16",
            over("torch float32 compiled", "torch bfloat16 compiled"),
            "at least 1.7 with AMX",
        ),
        ("JAX, float32 / bfloat16", over("JAX float32", "JAX bfloat16"), ""),
    ]
    if record["public"]:
        for name in ("torch float32", "torch float32 compiled"):
            against = _public(times, name, record)
            rows.append((f"rate of {name} / fastest public", against, "at least 1.4"))
    return ratio_table("Training steps compared", rows)


def _public(times: Timings, name: str, record: dict[str, Any]) -> Spread | None:
    """Images/s over those of the fastest public code, scaled by the convolution of this run."""
    against = ratio(times["torch convolution float32 backward"], times[name])
    return against and Spread(*(each * record["batch"] / PUBLIC_IMAGES for each in against))
