"""Make every mistake in turn and check the ladder: `make mutants`.

Prints a table and writes it to the file named on the command line, if any; any survivor, and any
mistake that is caught in another place, fails.
"""

import os
import sys
import tempfile
import time

os.environ["JAX_ENABLE_X64"] = "1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
from rich.console import Console
from rich.table import Table

from mutants.hunt import Caught, hunt
from mutants.table import MUTANTS


def main() -> int:
    """Hunt those whose names hold a word of the command line, or all."""
    files = [each for each in sys.argv[1:] if each.endswith(".md")]
    words = [each for each in sys.argv[1:] if not each.endswith(".md")]
    table, found, began = Table("mistake", "where", "rung", "named", ""), [], time.monotonic()
    wanted = [each for each in MUTANTS if not words or any(word in each.name for word in words)]
    with tempfile.TemporaryDirectory() as kept:
        # Nearly all of a check is XLA's compiling, and nearly all of that is the same in each.
        jax.config.update("jax_compilation_cache_dir", kept)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        for mutant in wanted:
            caught = hunt(mutant)
            found.append(caught)
            mark = "." if caught.right else f"\n{mutant.name}: {caught.rung}, {caught.first}\n"
            print(mark, end="", flush=True, file=sys.stderr)
            rung = "none" if caught.rung is None else str(caught.rung)
            table.add_row(mutant.name, mutant.where, rung, caught.first, caught.verdict)
    right = sum(each.right for each in found)
    said = f"{right} of {len(found)} mistakes caught where they were made"
    Console(width=150).print("\n", table, said, f"in {time.monotonic() - began:.0f} s")
    for path in files:
        with open(path, "w") as file:
            file.write(page(found, said))
    return 0 if right == len(found) else 1


def page(found: list[Caught], said: str) -> str:
    """The table as a page of the documentation."""
    rows = "\n".join(
        f"| {each.mutant.name} | {each.mutant.module.replace('.', '/')}.py | {each.rung} "
        f"| `{each.first}` |"
        for each in found
    )
    return (
        "# Mistakes made on purpose\n\nEach row is a small change of one wing, made in memory "
        "(`tests/labs/mutants/table.py`), after\nwhich the ladder is climbed in float64 until a "
        "rung breaks. The rung and the first tensor named\nmust be those of the mistake.\n\n"
        f"    make mutants      # {said}\n\n"
        f"| mistake | in | rung | first named |\n|---|---|---|---|\n{rows}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
