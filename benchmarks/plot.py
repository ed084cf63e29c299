"""The figure of a run: steps, the digit layer, and how its time and memory grow."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import digit, growth, memory, step
from benchmarks.report import number, rate, timings
from benchmarks.rounds import Spread, seconds

COLOURS = {"textbook": "#8a8a8a", "torch": "#c4532d", "JAX": "#2d6ec4"}
SHADES = {"plain": 0.45, "plain compiled": 0.7}

Draw = Callable[[Any, Mapping[str, Any]], None]


def _colour(name: str) -> tuple[str, float]:
    """Hue by wing, pale for plain routing: (colour, opacity)."""
    wing, _, variant = name.partition(" ")
    return COLOURS[wing], SHADES.get(variant, 1.0)


def _bars(axes: Any, values: Mapping[str, Spread], label: str) -> None:
    names = list(values)[::-1]
    for place, name in enumerate(names):
        each, (colour, opacity) = values[name], _colour(name)
        axes.barh(place, each.median, color=colour, alpha=opacity, height=0.62)
        axes.plot([each.low, each.high], [place, place], color="#333333", linewidth=1)
        axes.text(each.high, place, f"  {number(each.median)}", va="center", fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel(label)
    axes.tick_params(left=False)
    axes.margins(x=0.15)


def _steps(axes: Any, record: Mapping[str, Any]) -> None:
    times = timings(record["groups"][0])
    rates = {name: rate(times[name], record["batch"]) for name in step.STEPS}
    _bars(axes, {name: each for name, each in rates.items() if each}, "images/s")
    axes.set_title(f"Training step, batch {record['batch']}")


def _digit(axes: Any, record: Mapping[str, Any]) -> None:
    quoted = record["quoted"]
    times = timings(next(each for each in record["groups"] if each["what"] == quoted))
    found = {name: seconds(times[name]) for name in digit.VARIANTS}
    values = {name: Spread(*(1e3 * x for x in each)) for name, each in found.items() if each}
    _bars(axes, values, "milliseconds, forward + backward")
    axes.set_title(f"Digit layer, batch {quoted['batch']}, r = {quoted['num_iters']}")


def _lines(axes: Any, lines: Mapping[str, list[tuple[float, float]]], label: str) -> None:
    for name, points in lines.items():
        if points:
            colour, opacity = _colour(name)
            style = "--" if name.endswith("compiled") else "-"
            inputs, values = zip(*points, strict=True)
            axes.plot(
                inputs, values, style, color=colour, alpha=opacity, marker="o", markersize=3.5,
                label=name,
            )  # fmt: skip
    ticks = sorted({inputs for points in lines.values() for inputs, _ in points})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda y, place: f"{y:,g}")
    axes.set_xticks(ticks, [f"{each:,.0f}" for each in ticks])
    axes.minorticks_off()
    axes.set_ylim(top=6 * axes.get_ylim()[1])  # room for the legend
    axes.set_xlabel("input capsules")
    axes.set_ylabel(label)
    axes.legend(frameon=False, fontsize=8)


def _growth(axes: Any, record: Mapping[str, Any]) -> None:
    lines: dict[str, list[tuple[float, float]]] = {name: [] for name in growth.VARIANTS}
    for group in record["groups"]:
        times = timings(group)
        for name, points in lines.items():
            if each := seconds(times[name]):
                points.append((group["what"]["inputs"], each.median))
    _lines(axes, lines, "seconds")
    axes.set_title(f"Time of the digit layer, batch {record['batch']}, r = {record['num_iters']}")


def _memory(axes: Any, record: Mapping[str, Any]) -> None:
    iterations = max(row["num_iters"] for row in record["rows"] if row["kind"] == "digit")
    lines: dict[str, list[tuple[float, float]]] = {name: [] for name in memory.VARIANTS}
    for row in record["rows"]:
        if (row["kind"], row["num_iters"]) == ("digit", iterations) and "growth" in row:
            lines[row["name"]].append((row["inputs"], row["growth"] / memory.MIB))
    _lines(axes, lines, "MiB")
    axes.set_title(f"Memory of the digit layer, batch {record['batch']}, r = {iterations}")


PANELS: dict[str, Draw] = {"step": _steps, "digit": _digit, "growth": _growth, "memory": _memory}


def save(path: Path, sections: Mapping[str, Any]) -> None:
    """Draw the sections that there are, a panel each; nothing is written where there are none."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    there = [name for name in PANELS if name in sections]
    if not there:
        return
    columns = min(2, len(there))
    rows = -(-len(there) // columns)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(5.6 * columns, 3.6 * rows), squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(there) :]:
        axes.set_axis_off()
    for axes, name in zip(grid.flat, there, strict=False):
        PANELS[name](axes, sections[name]["record"])
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(10)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
