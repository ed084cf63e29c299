"""Runs a training from train.py's flags: a run that begins, or goes on.

What the command line lacks comes from the run that is gone on with, or else from the data set's
recipe, or else from the preset. Nothing is written before flags, data and network are known good.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from parity.cli.flags import Flags, defaults, of_run, pick, recipe, usual_dataset
from parity.cli.output import go_on, steadily
from parity.cli.reporting import reporting
from parity.spec import PRESETS, RunOptions, TrainingSpec, TwincapsError, preset_card
from parity.spec.convolution import remarks
from parity.wing import processes
from parity.wing.load import UsageError, make_trainer
from parity.wing.processes import Place

if TYPE_CHECKING:
    from parity.data import Dataset
    from parity.runs import Run
    from parity.wing.trainer import Trainer

RESUMABLE = (
    *("backend", "epochs", "data_dir"),
    *("device", "compile", "lean", "block", "convolution", "checkpoint_every"),
)


def main(argv: Sequence[str] | None = None, prog: str = "train.py") -> int:
    """Trains as the command line says; returns the exit code."""
    return steadily(lambda: _main(argv, prog))


def _main(argv: Sequence[str] | None, prog: str) -> int:
    def parse(default: Flags) -> Flags:
        return tyro.cli(Flags, prog=prog, args=argv, default=default)

    # Twice: first for what decides the defaults of the second, and for --help before any import.
    first = parse(dataclasses.replace(defaults("sabour2017", "mnist-mini"), dataset=""))
    with reporting() as code:
        if not first.dataset:
            first = dataclasses.replace(first, dataset=usual_dataset(first.preset))
        place = processes.place()
        if place is None:
            _train(first, parse)
        else:
            _train_together(first, parse, place)
    return code[0]


def _train_together(first: Flags, parse: Callable[[Flags], Flags], place: Place) -> None:
    """`_train` as one of several processes, which never waits for dead ones at exit."""
    with reporting(place) as code:
        try:
            _train(first, parse, place)
        except Exception as error:
            if not isinstance(error, TwincapsError):
                processes.leave(1, error)
            raise
    processes.leave(code[0])


def _train(first: Flags, parse: Callable[[Flags], Flags], place: Place | None = None) -> None:
    from parity import data, runs

    path = _resumed(first)
    if path is not None and (first.resume != "auto" or runs.holds_run(path)):
        with runs.Run.open(path, read_only=place is not None and place.rank > 0) as run:
            known = of_run(run.preset, run.training, run.options, str(path), first.resume)
            _go_on(run, known, parse(known), place)
    else:
        data.entry(first.dataset)
        _begin(parse(defaults(first.preset, first.dataset)), path, place)


def _options(flags: Flags, before: RunOptions) -> RunOptions:
    options = dataclasses.replace(before, **pick(RunOptions, flags))
    if flags.data_dir is None:
        return options
    return dataclasses.replace(
        options, data_dir=os.path.abspath(os.path.expanduser(flags.data_dir))
    )


def _resumed(flags: Flags) -> Path | None:
    """The run folder to resume, or the one `auto` may make; None without --resume."""
    if flags.resume == "auto":
        return Path(flags.out or _default_out(flags))
    return None if flags.resume is None else Path(flags.resume)


def _default_out(flags: Flags) -> str:
    return f"runs/{flags.preset}-{flags.dataset}-{flags.backend}-{flags.seed}"


def _free(wanted: str) -> Path:
    """The first of NAME, NAME-2, NAME-3 that is not there."""
    path, number = Path(wanted), 1
    while path.exists():
        number += 1
        path = Path(f"{wanted}-{number}")
    return path


def _begin(flags: Flags, path: Path | None, place: Place | None) -> None:
    from parity import data, runs
    from parity.data import batches
    from parity.data.holdout import hold_out

    card = preset_card(flags.preset)
    chosen = recipe(flags.preset, flags.dataset)
    training = dataclasses.replace(chosen, **pick(TrainingSpec, flags))
    options = _options(flags, RunOptions())
    out = path or (Path(flags.out) if flags.out else _free(_default_out(flags)))
    runs.refuse_occupied(out)
    dataset = data.load(flags.dataset, options.data_dir)
    dataset = hold_out(dataset, training)
    batches.per_epoch(dataset.train, training)
    image, classes = dataset.train.shape, dataset.classes
    spec = dataclasses.replace(card.network, image=image, classes=classes)
    spec.check_batch(training.batch_size)
    trainer = make_trainer(spec, training, options, dataset, several=True, place=place)
    if place is not None and place.rank > 0:
        _accompany(trainer, dataset)
        return
    with runs.Run.create(out, spec, training, options, flags.preset) as run:
        _announce(run, trainer)
        _finish(run, trainer, dataset)


def _go_on(run: "Run", run_flags: Flags, flags: Flags, place: Place | None) -> None:
    from parity import data

    changeable = ", ".join(RESUMABLE[:-1]).replace("_", "-")
    changeable += f" and {RESUMABLE[-1].replace('_', '-')}"
    for field in dataclasses.fields(Flags):
        before, now = getattr(run_flags, field.name), getattr(flags, field.name)
        if field.name == "out":
            before, now = Path(before), Path(now or "")
        if before != now and field.name not in RESUMABLE:
            raise UsageError(
                f"--{field.name.replace('_', '-')} {now}: the run at {run.path} has {before}; "
                f"--resume may change {changeable} alone: leave it out, or start another run"
            )
    training = dataclasses.replace(run.training, epochs=flags.epochs)
    options = _options(flags, run.options)
    dataset = data.load(training.dataset, options.data_dir)
    trainer = make_trainer(run.spec, training, options, dataset, several=True, place=place)
    if place is not None and place.rank > 0:
        _accompany(trainer, dataset)
        return
    if (training, options) != (run.training, run.options):
        run.change(training, options)
    _announce(run, trainer)
    _finish(run, trainer, dataset)


def _announce(run: "Run", trainer: "Trainer") -> None:
    go_on()  # a training is worth more than what it prints
    training, options = run.training, run.options
    where = options.device + processes.in_words(processes.group_of(trainer))
    print(
        f"{run.preset or 'a network'} on {training.dataset}, "
        f"{options.backend} on {where}, {training.precision}: {training.epochs} epochs, "
        f"batch {training.batch_size}, {training.optimizer} at {training.learning_rate:g}, "
        f"seed {training.seed}"
    )
    card = PRESETS.get(run.preset)  # a run may have been made without one
    pairs = [] if card is None else [(training, card.training), (run.spec, card.network)]
    departures = [
        f"{name.replace('_', ' ')} {now} (preset {before})"
        for ours, theirs in pairs
        for name, now in vars(ours).items()
        if (before := getattr(theirs, name)) != now and name not in ("dataset", "seed")
    ]
    if departures:
        print(f"departs from the preset: {', '.join(departures)}")
    images, precision = training.batch_size, training.precision
    for remark in remarks(run.spec.convolutions(), images, precision, options):
        print(remark)
    print(f"run folder {run.path}", flush=True)


def _finish(run: "Run", trainer: "Trainer", dataset: "Dataset") -> None:
    from parity import loop

    with processes.parting(processes.group_of(trainer)):
        history = loop.train(trainer, dataset, run)
    if not history.lines:
        print(f"nothing to train: {run.training.epochs} epochs are done; --epochs N adds more")
    for line in _scores(run, history.accuracy):
        print(line)
    if history.lines:
        _illustrate(run, trainer, dataset)
    print(f"evaluate it with: python -m parity evaluate {run.path}")


def _scores(run: "Run", accuracy: float | None) -> Iterator[str]:
    """The last lines of a training: its scores.

    Where checkpoints were chosen on the test set, its best score is left out: it would be better
    than the network is.
    """
    evaluations = [line for line in run.metrics() if line["event"] == "eval"]
    if accuracy is None or not evaluations:
        return
    error, averaged = 1 - accuracy, evaluations[-1].get("ema_accuracy")
    beside = "" if averaged is None else f"; of the averaged weights {averaged:.4f}"
    yield f"test accuracy {accuracy:.4f} (error {error:.2%}){beside}, of the last epoch"
    chosen = run.best()
    if chosen is None or (validation := chosen.state.validation) is None:
        return
    line = next((row for row in evaluations if row["step"] == chosen.state.step), {})
    ema = line.get("validation_accuracy", validation) < validation
    test_accuracy = line["ema_accuracy"] if ema else chosen.state.accuracy or 0.0
    yield (
        f"chosen on {run.training.validation} validation images: {chosen.path}"
        f"{', its averaged weights' * ema}; validation accuracy {validation:.4f}, "
        f"test accuracy {test_accuracy:.4f} (error {1 - test_accuracy:.2%})"
    )


def _accompany(trainer: "Trainer", dataset: "Dataset") -> None:
    """Trains beside the first process, which alone writes and speaks."""
    from parity import loop

    with processes.parting(processes.group_of(trainer)):
        loop.train(trainer, dataset, progress=False)


def _illustrate(run: "Run", trainer: "Trainer", dataset: "Dataset") -> None:
    """Draws the figures at the end of a training, or prints why there are none."""
    from parity.figures import command
    from parity.loop import tensorboard

    try:  # whatever is wrong, the training went well
        pictures = command.illustrate(run, trainer, dataset)
    except Exception as error:
        print(f"no figures: {error}; then: python -m parity figures {run.path}")
        return
    try:
        tensorboard.show(run.path, run.metrics()[-1]["step"], pictures)
    except Exception as error:
        print(f"no figures in TensorBoard: {error}")
