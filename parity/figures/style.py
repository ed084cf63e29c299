"""The one style of all figures: quiet, readable in print and without colour.

matplotlib is imported when a figure is made; nothing global of it changes. Lengths are in inches.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from parity.spec import TwincapsError
from parity.weights import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.0  # the text of a printed page
MARGIN = 0.12
HEAD, FOOT = 0.55, 0.26  # room for title and subtitle, and for the note
INK, GREY, PALE = "#1f1f1f", "#6f6f6f", "#d2d2d2"
WARM, COOL = "#d9713c", "#274b8a"  # a light and a dark one: they differ on a grey printer too
DPI = 300

RC = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same picture everywhere
    "font.size": 7,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.labelsize": 7,
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 0.9,
    "legend.frameon": False,
    "legend.fontsize": 6.5,
    "image.interpolation": "nearest",
    "savefig.dpi": DPI,
    "svg.hashsalt": "twincaps",  # the same ids in every SVG of the same figure
}


class FiguresError(TwincapsError):
    """Figures cannot be drawn."""


def load() -> Any:
    """matplotlib; raises FiguresError, naming the extra, where it is not installed."""
    try:
        import matplotlib.figure
        import matplotlib.font_manager
        import matplotlib.image
    except ImportError as error:
        missing = (error.name or "matplotlib").split(".")[0]
        raise FiguresError(
            f"figures need {missing}, which is not installed; install it with: "
            "pip install 'twincaps[figures]'"
        ) from None
    return matplotlib


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Our style inside the block or decorated function; the caller's afterwards."""
    matplotlib = load()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


def page(title: str, subtitle: str, note: str, height: float, width: float = WIDTH) -> "Figure":
    """A figure with its title and subtitle above and a note on its origin below.

    Args:
        title: Bold.
        subtitle: Grey, below the title.
        note: The origin, at the foot.
        height: Of what is between head and foot, in inches.
        width: In inches.
    """
    height += HEAD + FOOT
    figure = load().figure.Figure(figsize=(width, height), facecolor="white")
    left = MARGIN / width
    figure.text(left, 1 - 0.2 / height, title, size=9.5, weight="bold", va="center")
    figure.text(left, 1 - 0.4 / height, subtitle, size=7, color=GREY, va="center")
    note = legible(note, besides="\n")
    figure.text(left, 0.11 / height, note, size=6, color=GREY, va="center", parse_math=False)
    return figure


def box(figure: "Figure", left: float, top: float, width: float, height: float) -> "Axes":
    """Axes by their place: from the left edge, and from below the head."""
    across, down = figure.get_size_inches()
    bottom = down - HEAD - top - height
    return figure.add_axes((left / across, bottom / down, width / across, height / down))


def word(figure: "Figure", left: float, top: float, text: str, **how: Any) -> None:
    """Text at a place as of `box`, centred in height."""
    across, down = figure.get_size_inches()
    how |= {"va": "center", "parse_math": False}  # a name may have dollars
    figure.text(left / across, (down - HEAD - top) / down, text, **how)


def legible(name: str, besides: str = "") -> str:
    """A name with the letters that the font lacks, or that do not print, escaped.

    Args:
        name: Text of any kind.
        besides: Characters that stay as they are.
    """
    manager = load().font_manager
    font = manager.get_font(manager.findfont(RC["font.sans-serif"][0]))

    def shown(letter: str) -> bool:
        return letter in besides or (letter.isprintable() and font.get_char_index(ord(letter)) > 0)

    return "".join(c if shown(c) else c.encode("unicode_escape").decode() for c in name)


def short(name: str, most: int) -> str:
    """A name of a class, cut to its first letters."""
    return name if len(name) <= most else name[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def change(before: str, after: str) -> str:
    """One class taken for another, in a line, or in two where the names are long."""
    between = " " if len(before + after) < 6 else "\n"
    return f"{short(before, 11)}{between}\N{RIGHTWARDS ARROW} {short(after, 9)}"


def signed(number: float) -> str:
    """A number of two decimals with its sign, as printers set it."""
    return f"{number:+.2f}".replace("-", "\N{MINUS SIGN}")


def is_ink(images: np.ndarray) -> bool:
    """Whether images [..., H, W, C] are light strokes on black, shown as ink."""
    rows, columns = images[..., [0, -1], :, :], images[..., :, [0, -1], :]
    border = np.concatenate([rows.ravel(), columns.ravel()])
    return images.shape[-1] == 1 and float(np.median(border)) < 0.1


def rgb(images: np.ndarray, ink: bool) -> np.ndarray:
    """Images [..., H, W, C] of any channels as colours [..., H, W, 3] in [0, 1].

    Of two channels, a stereo pair, the first is shown; of more than three, their mean.
    """
    images = np.clip(np.asarray(images, np.float32), 0, 1)
    channels = images.shape[-1]
    if channels == 2:
        images = images[..., :1]
    elif channels > 3:
        images = images.mean(-1, keepdims=True)
    images = 1 - images if ink else images
    return np.broadcast_to(images, (*images.shape[:-1], 3))


def mosaic(tiles: np.ndarray, gap: int = 2) -> np.ndarray:
    """Tiles [rows, columns, H, W, 3] as one picture, white between them."""
    rows, columns, height, width, _ = tiles.shape
    wide = np.ones((rows, columns, height + gap, width + gap, 3), np.float32)
    wide[:, :, :height, :width] = tiles
    whole = wide.swapaxes(1, 2).reshape(rows * (height + gap), columns * (width + gap), 3)
    return whole[: whole.shape[0] - gap, : whole.shape[1] - gap]


def show(axes: "Axes", picture: np.ndarray, frame: str | None = None) -> None:
    """A picture [H, W, 3] without ticks, framed in a colour if one is given."""
    axes.imshow(picture, vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(frame is not None)
    axes.spines[:].set_color(frame or INK)


def save(figure: "Figure", folder: Path, name: str) -> list[Path]:
    """Writes NAME.png and NAME.svg, whole or not at all; same figure, same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with quiet():
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            content = io.BytesIO()
            figure.savefig(content, format=kind, metadata=metadata)
            paths.append(folder / f"{name}.{kind}")
            write_whole(paths[-1], content.getvalue())
    return paths
