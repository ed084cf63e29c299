"""python -m parity figures RUN, and the same at the end of a training."""

import json as jsonlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from parity import runs
from parity.data import Dataset
from parity.figures import curves, style
from parity.figures.album import album
from parity.figures.model import Model, look
from parity.runs import Run
from parity.saved import find
from parity.spec import Backend, RunOptions, TrainingSpec

QUICK = 2000  # test images that figures at the end of a training are made from


def figures(
    run: str,
    backend: Backend | None = None,
    against: str | None = None,
    out: str | None = None,
    dataset: str | None = None,
    data_dir: str | None = None,
    ema: bool = False,
    json: bool = False,
) -> None:
    """Draw a run: learning curves, and what its network makes of test images.

    The network is that of its newest checkpoint.

    Each figure is written twice, as PNG and as SVG.

    Args:
        run: A run folder; or one of its checkpoints, a .safetensors file or the name of a network
            that comes with twincaps, which have no curves.
        backend: torch or jax; unless given, the run's own, or torch.
        against: Another run: draw the curves of both in one figure, and nothing else.
        out: The folder to write to; unless given, figures/ in the run.
        dataset: The data set of the test images; unless given, the one it was trained on.
        data_dir: Where the files of the data set are.
        ema: Show what the moving averages of the weights make of them.
        json: Print one JSON object instead: the paths of each figure by its name.
    """
    style.load()
    drawn = _drawn(run, backend, against, out, dataset, data_dir, ema)
    if json:
        print(jsonlib.dumps({paths[0].stem: [str(path) for path in paths] for paths in drawn}))
        return
    for first, *others in drawn:
        print(", ".join([str(first), *(path.suffix for path in others)]), flush=True)


def _drawn(
    run: str,
    backend: Backend | None,
    against: str | None,
    out: str | None,
    dataset: str | None,
    data_dir: str | None,
    ema: bool,
) -> Iterator[list[Path]]:
    """The files of each figure, as it is drawn."""
    folder = Path(out or Path(run) / "figures")
    if runs.holds_run(Path(run)):
        with Run.open(run, read_only=True) as opened:
            if against is not None:
                yield _overlay(opened, against, folder)
                return
            yield style.save(curves.draw(opened.metrics(), _note(opened)), folder, "curves")
    known = find(run, averaged=ema)
    if not runs.holds_run(Path(run)) and (against is not None or out is None):
        raise runs.RunError(
            f"{run}: no run, so it has no curves and no folder for figures; name a folder with "
            "--out, and leave --against out"
        )
    training, options, images = known.asked(backend, dataset, data_dir)
    trainer = known.trainer(training, options, images)
    note = _origin(known.source, known.preset, training, options) + ", averaged weights" * ema
    assert isinstance(trainer, Model)
    yield from _album(trainer, images, training, folder, note)


def illustrate(run: Run, trainer: object, dataset: Dataset) -> dict[str, np.ndarray]:
    """Draws the figures at the end of a training; returns pictures [H, W, C].

    They are of the first `QUICK` test images.

    A Trainer that is not a wing's has nothing to show.
    """
    if not isinstance(trainer, Model):
        return {}
    matplotlib, lines = style.load(), run.metrics()
    folder, step = run.path / "figures", lines[-1]["step"]
    drawn = [style.save(curves.draw(lines, _note(run)), folder, "curves")]
    drawn += _album(trainer, dataset, run.training, folder, _note(run, step=step), QUICK)
    pictures = {paths[0].stem: matplotlib.image.imread(paths[0])[..., :3] for paths in drawn}
    print(f"figures in {folder}")
    return pictures


def _album(
    model: Model,
    dataset: Dataset,
    training: TrainingSpec,
    folder: Path,
    note: str,
    most: int | None = None,
) -> Iterator[list[Path]]:
    names = dataset.class_names or [str(n) for n in range(dataset.classes)]
    names = [style.legible(name) for name in names]
    seen = look(model, dataset.test, training.batch_size, most)
    for name, figure in album(seen, names, note):
        yield style.save(figure, folder, name)


def _overlay(run: Run, other: str, folder: Path) -> list[Path]:
    with Run.open(other, read_only=True) as against:
        both = (run, against)
        names = [one.path.name for one in both]
        if names[0] == names[1]:
            names = [str(one.path) for one in both]
        # A label that begins with "_" would be left out of matplotlib's legend.
        names = [style.legible(f"./{name}" if name.startswith("_") else name) for name in names]
        names = [f"{name}, {one.options.backend}" for name, one in zip(names, both, strict=True)]
        lines = dict(zip(names, (one.metrics() for one in both), strict=True))
        figure = curves.draw_both(lines, "\n".join(map(_note, both)))
        return style.save(figure, folder, f"curves-against-{against.path.name}")


def _note(run: Run, step: int | None = None) -> str:
    """The origin of a figure of a run, at a step if it is of one."""
    at = "" if step is None else f" at step {step}"
    return _origin(f"run {run.path.name}{at}", run.preset, run.training, run.options)


def _origin(source: str, preset: str, training: TrainingSpec, options: RunOptions) -> str:
    return (
        f"{source}: {preset or 'a network'} on {training.dataset}, {options.backend}, "
        f"{training.precision}, seed {training.seed}"
    )
