"""Train for 2,000 steps with each wing and look at memory and open files: `make soak`.

python -m soak [torch] [jax] [--steps N] [PAGE.md]: writes a table into the page and soak.png beside
it. A slope of more than 2 MiB in 1,000 steps, or one open file more, ends it with 1.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import wings
from pages import fill, table
from rich.console import Console
from rich.table import Table
from wings import ROOT

from parity.figures import style

MIB = 2**20
MOST = 2.0  # MiB in 1,000 steps
LEFT, GAP, BELOW = 0.55, 0.75, 0.36  # as in the figures of a run
HEADER = (
    "backend",
    "steps",
    "memory at the half, MiB",
    "at the end",
    "MiB in 1,000 steps",
    "files",
)
LOOKS = {"torch": (style.WARM, "-"), "jax": (style.COOL, "--")}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("words", nargs="*", help=f"{', '.join(wings.NAMES)}, PAGE.md")
    parser.add_argument("--steps", type=int, default=2000)
    asked = parser.parse_args()
    pages = [each for each in asked.words if each.endswith(".md")]
    backends = [each for each in wings.NAMES if each in asked.words] or list(wings.NAMES)
    found = {each: soaked(each, asked.steps) for each in backends}
    rows, flat = [], True
    for backend, looks in found.items():
        half = looks[len(looks) // 2 :]
        grows = slope(half)
        flat &= grows < MOST and half[-1, 2] <= half[0, 2]
        memory = [f"{each[1] / MIB:.1f}" for each in (half[0], half[-1])]
        files = f"{half[0, 2]:.0f} to {half[-1, 2]:.0f}"
        rows.append([backend, int(looks[-1, 0]), *memory, f"{grows:+.2f}", files])
    shown = Table(*HEADER)
    for row in rows:
        shown.add_row(*map(str, row))
    Console(width=120).print(shown)
    for page in pages:
        shown_in_page = "![Memory and open files, step by step](soak.png)"
        fill(page, "soak", f"    make soak\n\n{table(HEADER, rows)}\n\n{shown_in_page}")
        draw(found).savefig(Path(page).with_name("soak.png"), metadata={"Software": None}, dpi=200)
    return 0 if flat else 1


def soaked(backend: str, steps: int) -> np.ndarray:
    """[looks, (step, bytes, open files)] of a process of its own."""
    own = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'labs'}", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="twincaps-soak-") as folder:
        environment = {**os.environ, **own, "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": folder}
        result = subprocess.run(
            [sys.executable, "-m", "soak.worker", backend, str(steps), folder],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return np.array(json.loads(result.stdout)["looks"], float)


def slope(looks: np.ndarray) -> float:
    """MiB in 1,000 steps, of the straight line through all looks."""
    return float(np.polyfit(looks[:, 0], looks[:, 1] / MIB, 1)[0]) * 1000


@style.quiet()
def draw(found: dict[str, np.ndarray]) -> Any:
    """Memory beyond that of the first look, and open files, by step."""
    title = "Memory and open files of a training process"
    subtitle = "the small network, batches of 10, a checkpoint every 100 steps, TensorBoard on"
    figure = style.page(title, subtitle, "make soak", 1.9 + BELOW)
    width = (style.WIDTH - LEFT - style.MARGIN - GAP) / 2
    boxes = [style.box(figure, LEFT + n * (width + GAP), 0.05, width, 1.85) for n in range(2)]
    for backend, looks in found.items():
        colour, dash = LOOKS[backend]
        for axes, values in zip(boxes, (looks[:, 1] / MIB, looks[:, 2]), strict=True):
            grown = f", {slope(looks[len(looks) // 2 :]):+.2f} MiB in 1,000 steps"
            label = f"{backend}{grown if axes is boxes[0] else ''}"
            axes.plot(looks[:, 0], values, color=colour, linestyle=dash, label=label)
    for axes, label in zip(boxes, ("resident memory, MiB", "open files"), strict=True):
        axes.set(xlabel="training step", ylabel=label)
        axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
        axes.legend(loc="lower right")
    return figure


if __name__ == "__main__":
    sys.exit(main())
