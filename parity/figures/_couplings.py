"""Routing coefficients over an image: which primary capsules send where.

Axes: T iterations, I primary capsules, J classes, H W C the image, H'xW' the capsules' grid.
"""

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from parity import reference
from parity.figures import style
from parity.spec import NetworkSpec, TwincapsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 10  # classes that are shown: those of the longest poses
GAP, SIDE, BAR, TOP, PICTURE = 0.05, 0.92, 0.55, 0.36, 0.56
AROUND = 0.1  # of the grid's height and width, shown on each side of it


def couplings(net: Any, image_HWC: np.ndarray, names: Sequence[str] = ()) -> "Figure":
    """Draws where a network's primary capsules send one image.

    A row for each iteration of routing; a column for each class, the ten longest where there are
    more, each with the length of its capsule, the longest of all in bold.

    Args:
        net: A network of either wing, `trainer.net` for example.
        image_HWC: Floating, in 0 to 1.
        names: Of the classes; unless given, their numbers.

    Returns:
        A matplotlib figure: a notebook shows it, `figure.savefig(path)` writes it.

    Raises:
        TwincapsError: Where there is no name for each class.
        SpecError: Where the image does not fit the network.
        FiguresError: Where matplotlib is not installed.
    """
    names = names or [str(j) for j in range(net.spec.classes)]
    if len(names) != net.spec.classes:
        raise TwincapsError(f"names: {len(names)}; expected {net.spec.classes}, one a class")
    taken = []

    def tap(name: str, x: Any) -> Any:
        if name.startswith("routing.") and name.endswith(".coupling"):
            taken.append(_array(x)[0])
        return x

    capsules, _ = net.capsules(np.asarray(image_HWC)[None], tap=tap)
    lengths_J = _array(net.ranked(capsules))[0]
    maps = strongest(np.stack(taken), net.spec)
    names = [style.legible(str(name)) for name in names]
    return draw(image_HWC, maps, lengths_J, [int(lengths_J.argmax())], net.spec, names, "")


def _array(x: Any) -> np.ndarray:
    """A tensor of either wing in NumPy."""
    return np.asarray(x.detach().cpu() if hasattr(x, "detach") else x)


def strongest(couplings_TIJ: np.ndarray, spec: NetworkSpec) -> np.ndarray:
    """The largest coefficient of the types at each place: [T, J, H', W'].

    A mean over the types would hide it: most capsules have short poses, and split evenly. Where
    classes see two grids (DeepCaps) it is that of the second, which is the finer one.
    """
    iterations, _, classes = couplings_TIJ.shape
    shape = iterations, *spec.senders, classes
    shown = couplings_TIJ[:, -math.prod(spec.senders) :]
    return shown.reshape(shape).max(3).transpose(0, 3, 1, 2)


def extent(spec: NetworkSpec) -> tuple[float, float, float, float]:
    """Left, right, lower and upper edge of the grid over the image, in pixels."""
    first, step = spec.cells
    down, across = (first + step * n for n in spec.senders[:2])
    return first, across, down, first


@style.quiet()
def draw(
    image: np.ndarray,
    maps: np.ndarray,
    lengths_J: np.ndarray,
    labels: Collection[int],
    spec: NetworkSpec,
    names: Sequence[str],
    note: str,
) -> "Figure":
    """A row for each iteration, a column for each class.

    Args:
        image: [H, W, C].
        maps: [T, J, H', W'], of `strongest`.
        lengths_J: Of the class capsules, shown under their names.
        labels: The image's class or classes, or the answers, whose names are bold.
        spec: The network.
        names: Of the classes.
        note: The origin of the figure.
    """
    shown = np.sort(reference.longest(lengths_J, MOST))
    even = 1 / (spec.classes + spec.routing.options.get("leaky", False))
    # Added after the softmax, it may take coefficients anywhere, below 0 too.
    apart = "" if spec.routing.shares else ", or less (a learned prior is added)"
    left, right, low, high = extent(spec)
    tile = min((style.WIDTH - SIDE - BAR + GAP) / len(shown) - GAP, 0.9)
    height = tile * (low - high) / (right - left)
    room = len(maps) * (height + GAP) - GAP
    subtitle = (
        f"the largest coupling coefficient of the {spec.senders[2]} capsules at each place, "
        f"white being the even split, {even:.2g}{apart}; under each class, its capsule's "
        f"{spec.ranked}"
    )
    figure = style.page("Where the primary capsules send", subtitle, note, TOP + room)
    _whole(figure, image, extent(spec))
    largest = max(float(maps[:, shown].max()), even * 1.01)
    how = {"cmap": "Blues", "vmin": even, "vmax": largest, "extent": extent(spec)}
    drawn = []
    for column, j in enumerate(map(int, shown)):
        start = SIDE + column * (tile + GAP)
        heads = {"ha": "center", "weight": "bold" if j in labels else "normal"}
        style.word(figure, start + tile / 2, 0.1, style.short(names[j], 10), **heads)
        length = f"{lengths_J[j]:.2f}"
        style.word(figure, start + tile / 2, 0.24, length, ha="center", size=6, color=style.GREY)
        for t, map_HW in enumerate(maps[:, j]):
            axes = style.box(figure, start, TOP + t * (height + GAP), tile, height)
            drawn.append(axes.imshow(map_HW, **how))
            _trim(axes, image, extent(spec))
    for t in range(len(maps)):
        down = TOP + t * (height + GAP) + height / 2
        turned = {"rotation": 90, "ha": "center", "size": 6, "color": style.GREY}
        style.word(figure, SIDE - 0.1, down, f"iteration {t + 1}", **turned)
    beside = style.box(figure, SIDE + len(shown) * (tile + GAP) + 0.02, TOP, 0.08, room)
    bar = figure.colorbar(drawn[-1], cax=beside)
    bar.set_ticks(list(np.linspace(even, largest, 5)), labels=_numbers(even, largest))
    return figure


def _numbers(low: float, high: float) -> list[str]:
    digits = 2 if high - low > 0.1 else 3
    return [f"{tick:.{digits}f}" for tick in np.linspace(low, high, 5)]


def _whole(figure: "Figure", image: np.ndarray, grid: tuple[float, float, float, float]) -> None:
    """The whole image at the left, with a frame around what the grid covers."""
    from matplotlib.patches import Rectangle

    axes = style.box(figure, style.MARGIN, TOP, PICTURE, PICTURE * image.shape[0] / image.shape[1])
    style.show(axes, style.rgb(image, style.is_ink(image)), style.PALE)
    left, right, low, high = grid
    frame = {"fill": False, "edgecolor": style.COOL, "linewidth": 0.7}
    axes.add_patch(Rectangle((left, high), right - left, low - high, **frame))


def _trim(axes: "Axes", image: np.ndarray, grid: tuple[float, float, float, float]) -> None:
    """Shows the grid and a little around it, and the outline of strokes."""
    left, right, low, high = grid
    across, down = AROUND * (right - left), AROUND * (low - high)
    if style.is_ink(image) and image.max() > image.min():
        middle = (float(image.max()) + float(image.min())) / 2
        axes.contour(image[..., 0], [middle], colors=style.INK, linewidths=0.5)
    axes.set(xlim=(left - across, right + across), ylim=(low + down, high - down))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=style.PALE)
