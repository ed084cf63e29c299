"""Measure both wings and public code side by side: `python -m benchmarks`, or `make bench`.

Prints a table as it ends, and writes it to docs/measured/speed.md; sections that are not measured
this time stay there as they were. Where other work took over a quarter of the cores, nothing is
reported: measure again on a quiet machine.
"""

import argparse
import datetime
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import machine, peers, report, turns
from benchmarks.sections import QUICK, SECTIONS, Group, Scale

PAGE = turns.ROOT / "docs/measured/speed.md"
LOUD = 0.25  # of the cores, beyond which a time says nothing


def flags(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a section; repeatable")
    parser.add_argument("--peers", type=Path, help="the folder of public code: see docs/speed.md")
    parser.add_argument("--rounds", type=int, help="of the turns (default: 5, quick 2)")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--out", type=Path, help="the page (default: docs/measured/speed.md)")
    found = parser.parse_args(argv)
    if found.rounds is not None and found.rounds < 1:
        parser.error(f"--rounds is {found.rounds}; expected at least 1")
    if found.out is None and not found.quick:
        found.out = PAGE
    return found


def measure(group: Group, workers: turns.Workers, rounds: int) -> dict[str, turns.Samples | str]:
    """The samples of each row."""
    if group.commands:
        return turns.starts(group.commands, rounds)
    if group.unit == "MiB":
        return turns.growths(group.cases)
    return turns.times(workers, group.cases, rounds)


def section(
    name: str, scale: Scale, there: Mapping[str, str], out: Path | None, rounds: int
) -> bool:
    """Measure, print and write a section; whether every case of it ran."""
    lines, loud, whole = [f"## {name.capitalize()}"], False, True
    for group in SECTIONS[name](scale, there):
        with turns.Workers() as workers:
            watch = machine.Watch(lambda workers=workers: workers.pids)
            found = measure(group, workers, rounds)
            others, took = watch.others, watch.seconds
        for case, why in found.items():
            if isinstance(why, str):
                print(f"{case} failed: {why}", file=sys.stderr)
        whole &= not any(isinstance(each, str) for each in found.values())
        table = report.rows(group, found)
        print(f"\n{group.title}", flush=True)
        # Memory does not hang on who else works.
        if others > LOUD and group.unit != "MiB":
            shown, loud = f"not reported: other work took {others:.0%} of the cores", True
            print(f"  {shown}", flush=True)
        else:
            shown = (
                f"{datetime.date.today()}, {machine.describe()}; {rounds} rounds in {took:.0f} s; "
                f"other work took {others:.0%} of the cores.\n\n{report.markdown(table)}"
            )
            print(report.text(table), flush=True)
            if out and name == "step":
                report.picture(out.with_suffix(".png"), group, found)
        lines += ["", f"**{group.title}**", "", shown, *(["", group.note] if group.note else [])]
    if out:
        report.write(out, SECTIONS, name, "\n".join(lines), not loud)
    return whole


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sections asked for; 1 if a case of them failed."""
    asked = flags(argv)
    scale = QUICK if asked.quick else Scale()
    there, missing = peers.split(asked.peers)
    for path in missing:
        print(f"{path} is not there: measured without it; docs/speed.md says how to fetch it")
    rounds = asked.rounds or scale.rounds
    ran = [section(name, scale, there, asked.out, rounds) for name in asked.only or SECTIONS]
    return 0 if all(ran) else 1


if __name__ == "__main__":
    sys.exit(main())
