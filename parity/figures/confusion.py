"""Which classes are taken for which, and the worst mistakes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from parity.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE, SIDE, WORST, TILE, UNDER = 3.1, 0.5, (4, 4), 0.47, 0.3
LONGEST = 12  # letters of a class's name
LEGIBLE = 20  # classes up to which every cell has its number


def matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How many images of each class (rows) were taken for each (columns): [J, J]."""
    counts = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def worst(lengths_NJ: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """The mistakes whose capsule exceeds that of the right class most, in order."""
    own = lengths_NJ[np.arange(len(labels)), labels]
    over = lengths_NJ.max(1) - own
    wrong = np.flatnonzero(lengths_NJ.argmax(1) != labels)
    return wrong[np.argsort(-over[wrong], kind="stable")[:count]]


@style.quiet()
def draw(
    counts: np.ndarray,
    whole: int,
    mistakes: np.ndarray,
    captions: Sequence[str],
    names: Sequence[str],
    note: str,
) -> "Figure":
    """The matrix at the left, the mistakes with a caption each at the right.

    Args:
        counts: [J, J], of `matrix`.
        whole: How many test images there are, counted or not.
        mistakes: Images [N, H, W, C].
        captions: Some lines under each mistake, the last one grey.
        names: Of the classes.
        note: The origin of the figure.
    """
    total, wrong = counts.sum(), counts.sum() - np.trace(counts)
    counted = f"{total:,}" if total == whole else f"the first {total:,} of {whole:,}"
    subtitle = f"{wrong:,} of {counted} test images are wrong ({100 * wrong / total:.2f} %)"
    if wrong:
        subtitle += "; under each mistake its class and the answer, with their capsules' lengths"
    longest = min(max(map(len, names)), LONGEST)
    side = SIDE + 0.055 * (longest - 1)
    figure = style.page("What is taken for what", subtitle, note, SIZE + side - 0.12)
    _cells(style.box(figure, side, 0.05, SIZE, SIZE), counts, names)
    rows, columns = WORST
    start = side + SIZE + 0.3
    across = (style.WIDTH - style.MARGIN - start - columns * TILE) / (columns - 1)
    down = (SIZE - rows * (TILE + UNDER)) / (rows - 1)
    ink = wrong > 0 and style.is_ink(mistakes)
    for n, image in enumerate(style.rgb(mistakes, ink)):
        left = start + (n % columns) * (TILE + across)
        top = 0.05 + (n // columns) * (TILE + UNDER + down)
        style.show(style.box(figure, left, top, TILE, TILE), image, style.PALE)
        lines = captions[n].split("\n")
        for row, line in enumerate(lines):
            colour = style.GREY if row == len(lines) - 1 else style.INK
            place = top + TILE + 0.07 + 0.095 * row
            style.word(figure, left + TILE / 2, place, line, ha="center", size=5.5, color=colour)
    return figure


def _cells(axes, counts: np.ndarray, names: Sequence[str]) -> None:
    classes = len(counts)
    errors = counts * (1 - np.eye(classes, dtype=int))
    axes.imshow(errors, cmap="Greys", vmin=0, vmax=max(1.6 * errors.max(), 1))
    names = [style.short(name, LONGEST) for name in names]
    turned = 90 if max(map(len, names)) > 2 else 0
    axes.set_xticks(range(classes), names, rotation=turned, parse_math=False)
    axes.set_yticks(range(classes), names, parse_math=False)
    axes.set_xlabel("answer")
    axes.set_ylabel("class")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(True)
    if classes > LEGIBLE:
        return
    size = min(6.5, 65 / classes)
    for row, column in np.argwhere(counts):
        same = row == column
        axes.text(
            column, row, f"{counts[row, column]}", ha="center", va="center", size=size,
            color=style.GREY if same else style.INK,
        )  # fmt: skip
