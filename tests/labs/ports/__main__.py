"""Every port with a fault, right ports, real models and random pairs: `make ports`.

Prints what was found and writes it as a page to the file named on the command line, if any. A fault
that is not named at its module with its kind, and a right port that is called different, fails.
What needs a package that is not installed (equinox, torchvision, transformers) is left out by name.
"""

import importlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from pages import table

from parity import diff
from ports import mutations
from ports.right import RIGHT
from ports.row import Network, compare, right

NETWORKS = ("residual", "transformer", "recurrent", "capsules")
SEEDS, RANDOM = 20, 1000


def networks(missing: list[str]) -> Iterator[Network]:
    """The networks whose frameworks are here; the others are added to `missing`."""
    for name in NETWORKS:
        try:
            yield importlib.import_module(f"ports.{name}").NETWORK
        except ModuleNotFoundError as error:
            missing.append(f"{name} needs {error.name}")


def faults(found: list[Network]) -> tuple[list[list[str]], int]:
    """A row for each fault, and how many are wrong."""
    rows, wrong = [], 0
    for network in found:
        for fault in network.faults:
            report = compare(network, 1, fault.name)
            told = right(fault, report)
            wrong += bool(told)
            first = report.first
            named = told or (f"`{first.module}`, {first.kind}" if first else "")
            print("." if not told else f"\n{fault.name}: {told}\n", end="", flush=True)
            link = f"[report]({fault.source})"
            rows.append([fault.name, network.frameworks, f"`{fault.module}`", named, link])
    return rows, wrong


def ports(found: list[Network]) -> tuple[dict[str, int], float]:
    """Right port -> how many of the seeds are called different, and the largest difference."""
    alarms, worst = {}, 0.0
    made = {network.name: (lambda seed, n=network: n.pair(seed, "")) for network in found}
    for name, pair in {**made, **RIGHT}.items():
        alarms[name] = 0
        for seed in range(SEEDS):
            report = diff.models(**pair(seed))
            alarms[name] += not report.equal
            worst = max([worst, *(row.difference for row in report.rows)])
        print(f"{name}: {alarms[name]} false alarms of {SEEDS}", flush=True)
    return alarms, worst


def real(missing: list[str]) -> tuple[list[list[str]], int]:
    """A row for each real model and each fault in its port, and how many are wrong."""
    rows, wrong = [], 0
    from ports import zoo

    for model, pair in zoo.PAIRS.items():
        try:
            given = pair(0)
        except (ImportError, RuntimeError) as error:
            missing.append(f"{model}: {error}")
            continue
        began = time.monotonic()
        report = diff.models(**given)
        took = time.monotonic() - began
        wrong += not report.equal
        said = f"{len(report.rows)} tensors agree" if report.equal else "called different"
        rows.append([model, "none", f"{said}, {took:.0f} s"])
        for (name, fault), expected in zoo.ZOO.items():
            if name == model:
                first = diff.models(**pair(1, fault), precision="float64").first
                named = (first.module, first.kind) if first else ("nothing", "")
                wrong += named != expected
                rows.append([model, fault, f"`{named[0]}`, {named[1]}"])
        print(f"{model}: {rows[-4:]}", flush=True)
    return rows, wrong


def drawn(count: int) -> tuple[Counter[str], list[str]]:
    """How the changes of random pairs are named, and a line for each that is not."""
    counts: Counter[str] = Counter()
    misses = []
    for seed in range(count):
        pair = mutations.pair(seed)
        report = diff.models(pair.left, pair.right, [pair.x], precision="float64")
        how = mutations.named(pair, report)
        counts[how] += 1
        if how in ("equal", "elsewhere"):
            place = report.first.place if report.first else "nothing"
            misses.append(f"seed {seed}: {pair.change} at {pair.place}, named {place}")
    return counts, misses


def main() -> int:
    """Runs all of it; returns 1 where something is wrong."""
    pages = [each for each in sys.argv[1:] if each.endswith(".md")]
    missing: list[str] = []
    found = list(networks(missing))
    rows, wrong = faults(found)
    models, beside = real(missing)
    alarms, worst = ports(found)
    counts, misses = drawn(RANDOM)
    page = PAGE.format(
        faults=table(["fault", "frameworks", "made in", "named", "source"], rows),
        count=len(rows),
        right=len(rows) - wrong,
        models=table(["model", "fault", "found"], models),
        alarms=table(["right port", f"false alarms of {SEEDS}"], list(alarms.items())),
        worst=f"{worst:.1e}",
        random=RANDOM,
        exact=counts["right"],
        between=counts["between"],
        equal=counts["equal"],
        elsewhere=counts["elsewhere"],
        misses="\n".join(f"* {each}" for each in misses) or "None.",
    )
    for path in pages:
        with open(path, "w") as file:
            file.write(page)
    print(page, *(f"left out: {each}" for each in missing), sep="\n")
    return 1 if wrong + beside + sum(alarms.values()) else 0


PAGE = """# Ports with a fault

What `python -m parity diff` says of ports that are wrong, of ports that are right and only look
unlike, of real models, and of random pairs. Nothing tells it which layer is which.

    make ports      # {right} of {count} faults named at their module, with their kind

## Faults of real ports

Each fault was reported of a port, or is a documented difference of two frameworks; the code is
written for this test (`tests/labs/ports/`). *Made in* is the left module in which the fault is.

{faults}

## Real models

Random weights from a seed; the Flax ports are written for this test. The time is of one comparison
in float64 and float32, on a machine whose two cores others used too.

{models}

## Right ports

Called equal whatever the layout, the names and the number of modules; the largest difference of any
two tensors that agree is {worst}.

{alarms}

## Random pairs

{random} random networks, each twice, under other names, some of the second's layers called as plain
functions, with one random change in one layer. Named at the layer: {exact}. Named at a later one,
as what is between is recorded on one side alone: {between}. Called equal: {equal}. Named
elsewhere: {elsewhere}.

{misses}
"""


if __name__ == "__main__":
    sys.exit(main())
