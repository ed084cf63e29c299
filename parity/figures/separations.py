"""Two overlapping digits taken apart: both reconstructions in two colours."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from parity.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TILE, GAP, SIDE, HEADING = 0.56, 0.04, 0.98, 0.3
ACROSS, ROWS = 10, 5
ARROW = "\N{RIGHTWARDS ARROW}"
COLOURS = (style.WARM, style.COOL)


def overlay(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two grey images [..., H, W, 1] overprinted in two inks: [..., H, W, 3]."""
    from matplotlib.colors import to_rgb

    sheet = np.ones((*first.shape[:-1], 3), np.float32)
    for image, colour in zip((first, second), COLOURS, strict=True):
        sheet = sheet * (1 - image * (1 - np.array(to_rgb(colour), np.float32)))
    return sheet


@style.quiet()
def draw(
    images: np.ndarray,
    parts: np.ndarray,
    reconstructions: np.ndarray,
    digits: ArrayLike,
    answers: ArrayLike,
    note: str,
) -> "Figure":
    """Pairs of digits, what they are made of, and their reconstructions.

    Args:
        images: [N, H, W, 1].
        parts: The two digits alone, [N, 2, H, W, 1].
        reconstructions: From the capsules of the two answers, [N, 2, H, W, 1].
        digits: The classes of `parts`, [N, 2].
        answers: The network's two, [N, 2], in the order of `reconstructions`.
        note: The origin of the figure.
    """
    digits, answers = np.asarray(digits), np.asarray(answers)
    strips = -(-len(images) // ACROSS)
    step = HEADING + ROWS * (TILE + GAP) + 0.1
    subtitle = (
        "reconstructions from the capsules of the two longest poses; a wrong pair of answers "
        "stands under the right one"
    )
    figure = style.page("Two digits taken apart", subtitle, note, strips * step)
    true, overlays = (overlay(pair[:, 0], pair[:, 1]) for pair in (parts, reconstructions))
    blank = np.zeros_like(reconstructions[:, 0])
    rows = {
        "image": style.rgb(images, ink=True),
        "made of": true,
        "taken apart": overlays,
        "first alone": overlay(reconstructions[:, 0], blank),
        "second alone": overlay(blank, reconstructions[:, 1]),
    }
    for strip in range(strips):
        top = strip * step + HEADING
        some = range(strip * ACROSS, min((strip + 1) * ACROSS, len(images)))
        for name, pictures in rows.items():
            style.word(figure, style.MARGIN, top + TILE / 2, name, color=style.GREY)
            for place, n in enumerate(some):
                left = SIDE + place * (TILE + GAP)
                style.show(style.box(figure, left, top, TILE, TILE), pictures[n], style.PALE)
            top += TILE + GAP
        for place, n in enumerate(some):
            middle = SIDE + place * (TILE + GAP) + TILE / 2
            right = sorted(digits[n]) == sorted(answers[n])
            _pair(figure, middle, strip * step + (0.2 if right else 0.1), digits[n])
            if not right:
                _pair(figure, middle, strip * step + 0.22, answers[n], ARROW)
    return figure


def _pair(figure: "Figure", middle: float, top: float, pair: np.ndarray, before: str = "") -> None:
    """Two numbers, each in its ink."""
    style.word(figure, middle - 0.17, top, before, ha="center", color=style.GREY)
    for shift, number, colour in zip((-0.05, 0.05), pair, COLOURS, strict=True):
        style.word(
            figure, middle + shift, top, f"{number}", ha="center", color=colour, weight="bold"
        )
