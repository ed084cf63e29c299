"""python -m parity figures RUN, and the same at the end of a training."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from parity import data, runs
from parity.data import Dataset
from parity.figures import curves, style
from parity.figures.album import album
from parity.figures.model import Model, look
from parity.runs import Run
from parity.spec import RunOptions, TrainingSpec
from parity.wing.load import make_trainer

QUICK = 2000  # test images that figures at the end of a training are made from


def figures(
    run: str,
    backend: str | None = None,
    against: str | None = None,
    out: str | None = None,
    dataset: str | None = None,
    data_dir: str | None = None,
    ema: bool = False,
) -> None:
    """Draw a run: its learning curves, and what its newest checkpoint makes of the test images.

    Each figure is written twice, as PNG and as SVG.

    Args:
        run: A run folder.
        backend: torch or jax; unless given, the run's own.
        against: Another run: draw the curves of both in one figure, and nothing else.
        out: The folder to write to; unless given, figures/ in the run.
        dataset: Whose test images; unless given, the run's own.
        data_dir: Where the files of the data set are.
        ema: Show what the moving averages of the weights make of them.
    """
    style.load()
    with Run.open(run, read_only=True) as opened:
        folder = Path(out) if out else opened.path / "figures"
        if against is not None:
            _tell(_overlay(opened, against, folder))
            return
        _tell(style.save(curves.draw(opened.metrics(), _note(opened)), folder, "curves"))
        found = opened.newest()
    if found is None:
        raise runs.RunError(f"{run}: has no checkpoint yet; go on with it by --resume {run}")
    training = dataclasses.replace(opened.training, dataset=dataset or opened.training.dataset)
    options = dataclasses.replace(opened.options, backend=backend or opened.options.backend)
    images = data.load(training.dataset, data_dir or options.data_dir)
    trainer = make_trainer(opened.spec, training, options, images)
    state, note = found.trainer_state, _note(opened, training, options, found.state.step)
    if ema:
        _, state["weights"] = runs.read_weights(found.path, averaged=True)
        note += ", averaged weights"
    trainer.set_state(state)
    assert isinstance(trainer, Model)
    for paths in _album(trainer, images, training, folder, note):
        _tell(paths)


def illustrate(run: Run, trainer: object, dataset: Dataset) -> dict[str, np.ndarray]:
    """Draw a training that is over, of the first `QUICK` test images; the pictures [H, W, C].

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
    names = [style.legible(each) for each in names]
    seen = look(model, dataset.test, training.batch_size, most)
    for name, figure in album(seen, names, note):
        yield style.save(figure, folder, name)


def _overlay(run: Run, other: str, folder: Path) -> list[Path]:
    with Run.open(other, read_only=True) as against:
        both = (run, against)
        names = [each.path.name for each in both]
        if names[0] == names[1]:
            names = [str(each.path) for each in both]
        names = [style.legible(f"./{name}" if name.startswith("_") else name) for name in names]
        names = [f"{name}, {each.options.backend}" for name, each in zip(names, both, strict=True)]
        lines = dict(zip(names, (each.metrics() for each in both), strict=True))
        figure = curves.draw_both(lines, "\n".join(map(_note, both)))
        return style.save(figure, folder, f"curves-against-{against.path.name}")


def _note(
    run: Run,
    training: TrainingSpec | None = None,
    options: RunOptions | None = None,
    step: int | None = None,
) -> str:
    """The origin of a figure; the run's own training and options unless others are given."""
    training, options = training or run.training, options or run.options
    at = "" if step is None else f", step {step:,}"
    return (
        f"run {run.path.name}: {run.preset or 'a network'} on {training.dataset}, "
        f"{options.backend}, {training.precision}, seed {training.seed}{at}"
    )


def _tell(paths: list[Path]) -> None:
    first, *others = paths
    print(", ".join([str(first), *(each.suffix for each in others)]), flush=True)
