"""Images beside their reconstructions, of right answers and of wrong ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from parity.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TILE, GAP, SIDE, HEADING = 0.56, 0.04, 0.98, 0.3


@dataclass(frozen=True)
class Shown:
    """Images of one kind; N of them, axes N H W C.

    Attributes:
        labels: The class of each, [N].
        predicted: What the network says, [N].
        from_label: Reconstructions from the capsule of the class.
        from_predicted: Reconstructions from that of the answer.
    """

    originals: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    from_label: np.ndarray
    from_predicted: np.ndarray

    def pairs(self) -> list[tuple[int, int]]:
        """(class, answer) of each."""
        return list(zip(self.labels.tolist(), self.predicted.tolist(), strict=True))


@style.quiet()
def draw(right: Shown, wrong: Shown, names: Sequence[str], note: str) -> "Figure":
    """Rightly classified images above, mistakes below, with their reconstructions."""
    both = [group for group in (right, wrong) if len(group.originals)]
    rows = 2 * bool(len(right.originals)) + 3 * bool(len(wrong.originals))
    height = rows * (TILE + GAP) + len(both) * HEADING
    subtitle = (
        "each image, and what the decoder makes of one class capsule: the right one's, and for "
        "mistakes (class \N{RIGHTWARDS ARROW} answer) the answer's"
    )
    figure = style.page("Reconstructions", subtitle, note, height)
    ink = style.is_ink(np.concatenate([group.originals for group in both]))
    top = 0.0
    for group in both:
        lines = {"image": group.originals, "from its class": group.from_label}
        if group is wrong:
            lines |= {"from the answer": group.from_predicted}
        heading = "right" if group is right else "wrong"
        style.word(figure, style.MARGIN, top + HEADING - 0.13, heading, color=style.GREY)
        for n, (label, answer) in enumerate(group.pairs()):
            text = style.short(names[label], 11)
            if group is wrong:
                text = style.change(names[label], names[answer])
            middle = SIDE + n * (TILE + GAP) + TILE / 2
            style.word(figure, middle, top + HEADING - 0.13, text, ha="center", size=6.5)
        top += HEADING
        for name, images in lines.items():
            style.word(figure, style.MARGIN, top + TILE / 2, name, color=style.GREY)
            for n, image in enumerate(style.rgb(images, ink)):
                axes = style.box(figure, SIDE + n * (TILE + GAP), top, TILE, TILE)
                style.show(axes, image, style.PALE)
            top += TILE + GAP
    return figure
