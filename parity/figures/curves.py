"""Learning curves: of one run, or of two of the same seed in one figure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from parity.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Line = Mapping[str, Any]  # one of metrics.jsonl

LEFT, GAP, BELOW = 0.5, 0.62, 0.36  # of the first panel, between two, for the labels under them


@dataclass(frozen=True)
class Curve:
    """Loss, share of errors and learning rate by step, each [steps]."""

    steps: np.ndarray
    loss: np.ndarray
    error: np.ndarray
    rate: np.ndarray

    def smooth(self, window: int) -> "Curve":
        """Each value as the mean of those around it, of fewer at both ends."""
        kernel = np.ones(min(window, len(self.steps)))
        count = np.convolve(np.ones(len(self.steps)), kernel, "same")
        loss, error = (
            np.convolve(values, kernel, "same") / count for values in (self.loss, self.error)
        )
        return Curve(self.steps, loss, error, self.rate)

    def last(self, name: str) -> str:
        """The last loss, or the accuracy of the last error, in words."""
        return f"{self.loss[-1]:.4f}" if name == "loss" else f"{100 * (1 - self.error[-1]):.2f} %"


def curves(lines: Sequence[Line]) -> tuple[Curve, Curve, Curve]:
    """The curves of training, evaluations, and evaluations with averaged weights.

    Raises FiguresError where nothing was trained.
    """
    parts = []
    for event, kind in (("train", ""), ("eval", ""), ("eval", "ema_")):
        keys = ("step", f"{kind}loss", f"{kind}accuracy", "learning_rate")
        some = [x for x in lines if x.get("event") == event and all(key in x for key in keys)]
        steps, loss, accuracy, rate = (np.array([line[key] for line in some]) for key in keys)
        parts.append(Curve(steps, loss, 1 - accuracy, rate))
    if not len(parts[0].steps):
        raise style.FiguresError("the run has no training step yet, so it has no learning curves")
    return parts[0], parts[1], parts[2]


@style.quiet()
def draw(lines: Sequence[Line], note: str) -> "Figure":
    """Loss, accuracy and learning rate by step, from the lines of a run's metrics."""
    train, test, averaged = curves(lines)
    window = _window(train)
    mean = train.smooth(window)
    subtitle = f"training, each step{_mean(window)}; test, each epoch, with what it is at the end"
    if len(averaged.steps):
        subtitle += "; averaged: with the moving average of the weights"
    figure = style.page("Learning curves", subtitle, note, 2.0 + BELOW)
    loss, accuracy, rate = _panels(figure, 3, 2.0)
    floor = _floor(train, mean, test, averaged)
    for axes, name in ((loss, "loss"), (accuracy, "error")):
        of = partial(_shown, name=name, floor=floor)
        axes.plot(train.steps, of(train), color=style.PALE, linewidth=0.5)
        axes.plot(train.steps, of(mean), color=style.INK, label="training")
        for curve, label, colour, mark in (
            (test, "test", style.WARM, "o"),
            (averaged, "averaged", style.COOL, "s"),
        ):
            if len(curve.steps):
                axes.plot(
                    curve.steps, of(curve), color=colour, marker=mark, linewidth=0.7,
                    markersize=3.2, markeredgecolor=style.INK, markeredgewidth=0.4,
                    label=f"{label}, {curve.last(name)}",
                )  # fmt: skip
    rate.plot(train.steps, 1e3 * train.rate, color=style.INK)
    _label(loss, accuracy, rate, floor)
    loss.legend(loc="upper right")
    accuracy.legend(loc="lower right")
    return figure


@style.quiet()
def draw_both(runs: Mapping[str, Sequence[Line]], note: str) -> "Figure":
    """The curves of two runs in one figure, and how far apart their losses are."""
    first, second = parts = [curves(lines) for lines in runs.values()]
    window = max(_window(train) for train, *_ in parts)
    subtitle = f"training, as mean of {window} steps; test, each epoch, as marks"
    figure = style.page("Two runs, step by step", subtitle, note, 2 * (1.9 + BELOW))
    loss, accuracy, rate, apart = _panels(figure, 2, 1.9)
    means = [train.smooth(window) for train, *_ in parts]
    floor = _floor(*means, *(test for _, test, _ in parts))
    # The second is thin and broken, so that the first shows through where they are the same.
    looks = ((style.WARM, "-", "o", 2.2), (style.COOL, (0, (4, 2)), "x", 1.0))
    for name, mean, (_, test, _), look in zip(runs, means, parts, looks, strict=True):
        colour, dash, mark, width = look
        line: Any = {"color": colour, "linestyle": dash, "linewidth": width}
        size = 2.4 + 1.4 * width
        marks: Any = {"color": colour, "linestyle": "none", "marker": mark, "markersize": size}
        loss.plot(mean.steps, mean.loss, label=name, **line)
        loss.plot(test.steps, test.loss, **marks)
        accuracy.plot(mean.steps, np.maximum(mean.error, floor), **line)
        accuracy.plot(test.steps, np.maximum(test.error, floor), **marks)
        rate.plot(mean.steps, 1e3 * mean.rate, **line)
    _label(loss, accuracy, rate, floor)
    for text in loss.legend(loc="upper right").get_texts():
        text.set_parse_math(False)
    _difference(apart, first[0], second[0])
    return figure


def _shown(curve: Curve, name: str, floor: float) -> np.ndarray:
    """A panel's values of a curve; no error is at the floor, as log 0 is not."""
    return curve.loss if name == "loss" else np.maximum(curve.error, floor)


def _difference(axes: "Axes", first: Curve, second: Curve) -> None:
    """The losses of two runs at the same step: |a - b| / max(|a|, |b|)."""
    steps, of_first, of_second = np.intersect1d(first.steps, second.steps, return_indices=True)
    a, b = first.loss[of_first], second.loss[of_second]
    apart = a != b  # where they are equal there is no place on a logarithmic axis
    shares = np.abs(a - b)[apart] / np.maximum(np.abs(a), np.abs(b))[apart]
    axes.set_ylabel("loss, relative difference")
    if len(shares):
        axes.plot(steps[apart], shares, ".", color=style.INK, markersize=2)
        axes.set_yscale("log")
    else:
        note = f"equal at all {len(steps)} steps" if len(steps) else "no step in common"
        axes.text(0.5, 0.5, note, ha="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])


def _mean(window: int) -> str:
    return f" and as mean of {window} steps" if window > 1 else ""


def _window(train: Curve) -> int:
    """How many steps a mean is over, so that a curve has about forty of them."""
    return max(1, len(train.steps) // 40)


def _panels(figure: "Figure", columns: int, height: float) -> list["Axes"]:
    """Panels by step: three in one row, or two in each of two rows."""
    width = (style.WIDTH - LEFT - style.MARGIN - (columns - 1) * GAP) / columns
    panels = []
    for n in range(3 if columns == 3 else 4):
        left = LEFT + n % columns * (width + GAP)
        axes = style.box(figure, left, 0.05 + n // columns * (height + BELOW), width, height - 0.05)
        axes.set_xlabel("training step")
        axes.margins(x=0.02)
        panels.append(axes)
    return panels


def _floor(*curves: Curve) -> float:
    """A little below the smallest error: where "no error" is drawn on the axis."""
    errors = np.concatenate([curve.error for curve in curves])
    return float(errors[errors > 0].min(initial=1.0)) / 1.5


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between two numbers, or the powers alone."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    some = (1, 2, 5) if len(decades) < 5 else (1,)
    return [tick for e in decades for m in some if low <= (tick := float(f"{m}e{e}")) <= high]


def _label(loss: "Axes", accuracy: "Axes", rate: "Axes", floor: float) -> None:
    """Names the axes: a logarithmic loss, a rate from 0 up, and accuracy.

    The last is the error, logarithmic and upside down, so that 99 and 99.9 % are as far apart as
    90 and 99.
    """
    loss.set_yscale("log")
    ticks = _ticks(*loss.get_ylim())
    loss.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    loss.set_ylabel("loss")
    accuracy.set_yscale("log")
    accuracy.set_ylim(1.1, floor / 1.1)
    ticks = {tick: f"{100 * (1 - tick):g} %" for tick in _ticks(1.2 * floor, 1)}
    ticks[floor] = "100 %"
    accuracy.set_yticks(list(ticks), list(ticks.values()))
    accuracy.set_ylabel("accuracy")
    for axes in (loss, accuracy):
        axes.minorticks_off()
    rate.set_ylim(0, 1.1 * rate.get_ylim()[1])
    rate.locator_params(axis="y", nbins=5)
    rate.set_ylabel("learning rate (thousandths)")
