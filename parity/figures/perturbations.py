"""The perturbation sheet: what each number of a pose means (figure 4)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from parity.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TWEAKS = np.linspace(-0.25, 0.25, 11)  # in steps of 0.05, as in the paper
TALLEST = 9.8  # what fits a printed page
GAP, HEADING, SIDE = 0.22, 0.3, 0.2


def poses(poses_NJD: np.ndarray, labels_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses with one of their D numbers tweaked at a time, and their labels.

    [N * D * tweaks, J, D] and [N * D * tweaks], for `reconstruct`.
    """
    count, _, size = poses_NJD.shape
    steps = TWEAKS[None, :, None] * np.eye(size)[:, None, :]
    repeats = size * len(TWEAKS)
    tweaked, labels = poses_NJD.repeat(repeats, 0), labels_N.repeat(repeats)
    tweaked[np.arange(len(labels)), labels] += np.tile(steps.reshape(repeats, size), (count, 1))
    return tweaked, labels


@style.quiet()
def draw(sheets: np.ndarray, originals: np.ndarray, classes: Sequence[str], note: str) -> "Figure":
    """A block for each class, a row for each number of a pose, a column a tweak.

    Args:
        sheets: Reconstructions of what `poses` returns, [J, D, tweaks, H, W, C].
        originals: The image of each pose, [J, H, W, C].
        classes: Their names.
        note: The origin of the figure.
    """
    count, size, tweaks, tall, wide, _ = sheets.shape
    columns, tile = _fit(count, size, tweaks, tall / wide)
    rows, block = -(-count // columns), size * tile * tall / wide
    width, step = (tweaks + 1.25) * tile + SIDE, block + HEADING + GAP / 2
    low, high = style.signed(TWEAKS[0]), style.signed(TWEAKS[-1])
    subtitle = (
        f"reconstructions from a pose of which one number, a row each, is changed by {low} to "
        f"{high} in steps of {TWEAKS[1] - TWEAKS[0]:.2f}"
    )
    figure = style.page("What the numbers of a pose mean", subtitle, note, rows * step)
    ink = style.is_ink(originals)
    for n, (sheet, original, name) in enumerate(zip(sheets, originals, classes, strict=True)):
        left = style.MARGIN + (n % columns) * (width + GAP)
        top = (n // columns) * step + HEADING
        axes = style.box(figure, left, top, tile, tile * tall / wide)
        style.show(axes, style.rgb(original, ink))
        style.word(figure, left + tile / 2, top - 0.1, name, ha="center", weight="bold")
        start = left + 1.25 * tile + SIDE
        axes = style.box(figure, start, top, tweaks * tile, block)
        style.show(axes, style.mosaic(style.rgb(sheet, ink), 0))
        middle = tweaks // 2
        axes.axvline(middle * wide - 0.5, color=style.PALE, linewidth=0.5)
        axes.axvline((middle + 1) * wide - 0.5, color=style.PALE, linewidth=0.5)
        for place, text in ((0, low), (middle, "0"), (tweaks - 1, high)):
            at = start + (place + 0.5) * tile
            style.word(figure, at, top - 0.1, text, ha="center", size=6, color=style.GREY)
        for row in range(size):
            down = top + (row + 0.5) * block / size
            style.word(figure, start - 0.05, down, f"{row + 1}", ha="right", size=5.5,
                       color=style.GREY)  # fmt: skip
    return figure


def _fit(count: int, size: int, tweaks: int, ratio: float) -> tuple[int, float]:
    """The fewest columns of blocks that fit a page, and the width of a picture."""
    columns, tile = 0, 0.0
    for columns in range(2, 6):
        width = (style.WIDTH - 2 * style.MARGIN - (columns - 1) * GAP) / columns
        tile = (width - SIDE) / (tweaks + 1.25)
        if -(-count // columns) * (size * tile * ratio + HEADING + GAP / 2) <= TALLEST:
            break
    return columns, tile
