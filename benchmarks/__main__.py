"""Measure both wings side by side: `python -m benchmarks`, or `make bench`.

Prints a table a section as it ends, and keeps what was measured in docs/speed.json, .png and .md;
sections that are not measured this time stay there as they were.
"""

import argparse
import dataclasses
import datetime
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, report, scale
from benchmarks.rounds import Bench
from benchmarks.workers import ROOT, pool

# name of a section -> its module, which has `measure(bench)` and `tables(record)`
SECTIONS = {
    "step": "step",
    "digit": "digit",
    "growth": "growth",
    "inference": "inference",
    "input": "pipeline",
    "memory": "memory",
    "startup": "startup",
}
# flag -> where it writes unless told, and what
KEPT = {
    "json": (ROOT / "docs/speed.json", "every figure"),
    "plot": (ROOT / "docs/speed.png", "a picture of them"),
    "markdown": (ROOT / "docs/speed.md", "the tables, between the marks in that file"),
}


def flags(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section; repeatable")
    parser.add_argument("--rounds", type=int, help="of the round robin (default: 7, quick 2)")
    for name, (path, does) in KEPT.items():
        shown = f"{does} (default: {path.relative_to(ROOT)}; nowhere with --quick)"
        parser.add_argument(f"--{name}", type=Path, metavar="PATH", help=shown)
    found = parser.parse_args(argv)
    for name, (path, _) in KEPT.items():
        if getattr(found, name) is None and not found.quick:
            setattr(found, name, path)
    if found.rounds is not None and found.rounds < 1:
        parser.error(f"--rounds is {found.rounds}; expected at least 1")
    return found


def module(section: str) -> Any:
    return importlib.import_module(f"benchmarks.{SECTIONS[section]}")


def measure(section: str, bench: Bench) -> dict[str, Any]:
    """A section's figures as plain JSON, with the conditions they were measured under."""
    watch = machine.Watch(lambda: bench.pool.pids)
    record = module(section).measure(bench)
    measured = {
        "date": datetime.date.today().isoformat(),
        "scale": bench.scale.name,
        "rounds": bench.rounds,
        "seconds": watch.seconds,
        "others": watch.others,
        "machine": machine.describe(),
        "record": record,
    }
    return json.loads(json.dumps(measured, default=dataclasses.asdict))


def failures(value: Any) -> int:
    """How many cases of a section failed, as against not being there."""
    if isinstance(value, dict):
        return (value.get("failed") is True) + sum(map(failures, value.values()))
    return sum(map(failures, value)) if isinstance(value, list) else 0


def tables(section: str, measured: dict[str, Any], render: Any) -> str:
    """The tables of a section and its conditions."""
    rendered = [render(each) for each in module(section).tables(measured["record"])]
    return "\n".join([report.conditions(measured), "", *rendered])


def keep(found: argparse.Namespace, sections: dict[str, Any], new: str) -> None:
    """Write what the command line asks for, after each section: a long run may be cut short."""
    if found.json:
        lines = (f'"{name}": {json.dumps(each)}' for name, each in sections.items())
        found.json.write_text('{"sections": {\n' + ",\n".join(lines) + "\n}}\n")
    if found.markdown:
        report.replace(found.markdown, new, tables(new, sections[new], report.markdown))
    if found.plot:
        importlib.import_module("benchmarks.plot").save(found.plot, sections)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sections asked for; 1 if a case of them failed."""
    found = flags(argv)
    size = scale.QUICK if found.quick else scale.FULL
    sections: dict[str, Any] = {}
    if found.json and found.json.exists():
        sections = json.loads(found.json.read_text())["sections"]
    failed = 0
    with pool() as workers:
        bench = Bench(workers, size, found.rounds or size.rounds)
        for name in found.only or SECTIONS:
            bench.say(f"== {name}")
            sections[name] = measure(name, bench)
            failed += failures(sections[name])
            print(tables(name, sections[name], report.text), flush=True)
            keep(found, sections, name)
    if failed:
        print(f"{failed} cases failed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
