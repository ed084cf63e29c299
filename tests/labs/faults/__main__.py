"""Make faults and count what is lost: `make faults`.

python -m faults [torch] [jax] [kills] [disk] [damage] [--kills N] [--seed N] [PAGE.md]: those
named, or all; at least N kills with each backend. Prints a table and writes it into a page of
the documentation. Anything lost ends it with 1.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import wings
from pages import fill, table
from rich.console import Console
from rich.table import Table
from rich.text import Text

from faults import damage, disk, kills
from faults.row import HEADER, Row

KINDS = ("kills", "disk", "damage")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("words", nargs="*", help=f"{', '.join((*wings.NAMES, *KINDS))}, PAGE.md")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    pages = [each for each in asked.words if each.endswith(".md")]
    words = {each for each in asked.words if not each.endswith(".md")}
    if unknown := words - {*wings.NAMES, *KINDS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    backends = [each for each in wings.NAMES if each in words] or list(wings.NAMES)
    kinds = [each for each in KINDS if each in words] or list(KINDS)
    failed = False
    with tempfile.TemporaryDirectory(prefix="twincaps-faults-") as place:
        for backend in backends:
            began = time.monotonic()
            rows = tried(backend, Path(place) / backend, kinds, asked.kills, asked.seed, say)
            failed |= told(backend, rows, time.monotonic() - began, pages)
    return 1 if failed else 0


def told(backend: str, rows: list[Row], seconds: float, pages: list[str]) -> bool:
    """Show what became of the faults with one backend; whether anything was lost."""
    shown, console = Table(*HEADER), Console(width=140)
    for row in rows:
        shown.add_row(*map(Text, row.cells()))
    killed = sum(row.tried for row in rows if row.fault.startswith("killed"))
    lost = [each for row in rows for each in row.losses]
    said = (
        f"{killed} processes killed, {sum(row.tried for row in rows) - killed} other faults, "
        f"{len(lost)} lost"
    )
    console.print(shown, f"{said}, in {seconds / 60:.0f} minutes")
    for each in lost:
        console.print(Text(f"lost: {each}", style="red"))
    text = f"    make faults      # {said}\n\n{table(HEADER, [row.cells() for row in rows])}"
    for page in pages:
        fill(page, f"faults with {backend}", text)
    return bool(lost)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def tried(
    backend: str, folder: Path, kinds: list[str], count: int, seed: int, say: Callable[..., None]
) -> list[Row]:
    """All kinds of faults with one backend."""
    rows: list[Row] = []
    whole = kills.undisturbed(backend, folder)
    say(f"{backend}: starts in {whole.starting:.1f} s, trains in {whole.training:.1f} s")
    if "kills" in kinds:
        rows += kills.killed(backend, folder, whole, count, seed, say)
    if "disk" in kinds or "damage" in kinds:
        halfway = kills.halfway(backend, folder, whole)
    if "disk" in kinds:
        rows += disk.full(backend, folder, whole, say)
        rows += disk.forbidden(backend, folder, whole, halfway, say)
    if "damage" in kinds:
        rows += damage.altered(backend, folder, halfway, seed)
        rows += damage.by_hand(backend, folder, halfway, whole, seed, say)
    return rows


if __name__ == "__main__":
    sys.exit(main())
