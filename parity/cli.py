"""The flags of train.py, and what becomes of them; one wing is loaded, by name, when asked.

What the command line lacks comes from the run that is gone on with, or else from the data set's
recipe, or else from the preset. Nothing is written before flags, data and network are known good.
"""

import contextlib
import dataclasses
import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from parity import processes
from parity.processes import Place, ProcessError
from parity.spec import (
    PRESETS,
    RECIPES,
    NetworkSpec,
    RunOptions,
    TrainingSpec,
    TwincapsError,
    preset_card,
)

if TYPE_CHECKING:
    from parity.data import Dataset
    from parity.loop import Trainer
    from parity.runs import Run

EXTRAS = {"torch": ("torch",), "jax": ("jax", "jaxlib", "flax", "optax")}
RESUMABLE = (
    *("backend", "epochs", "data_dir"),
    *("device", "compile", "lean", "block", "checkpoint_every"),
)


class UsageError(TwincapsError):
    """A command line that asks for something that cannot be."""


def _shown(metavar: str, unset: str | None = None, helptext: str | None = None) -> Any:
    hint = None if unset is None else f"(default: {unset})"
    return tyro.conf.arg(metavar=metavar, help=helptext, help_behavior_hint=hint)


_PRESETS = f"The network and its training: one of {', '.join(PRESETS)}."


@dataclass(frozen=True)
class Flags:
    """Train a capsule network. What is not given comes from the data set's recipe, or else from
    the preset; what ran, and how it departs from the preset, is printed.
    """

    backend: Annotated[str, _shown("{torch,jax}")]
    """The framework to train with."""
    preset: Annotated[str, _shown("NAME", helptext=_PRESETS)]
    dataset: Annotated[str, _shown("NAME")]
    """What to train on; `python -m parity data` lists them."""
    data_dir: Annotated[str | None, _shown("DIR", "TWINCAPS_DATA and the usual places")]
    """Where the files of the data set are."""
    epochs: int
    """Passes over the training images."""
    batch_size: int
    """Training images a step."""
    learning_rate: float
    """The rate of the first step; it decays from there."""
    decay_steps: int
    """Steps in which the rate decays by the preset's factor (0.96 in all of ours)."""
    optimizer: Annotated[str, _shown("{adam,adamw,sgd}")]
    """The optimiser."""
    seed: int
    """Decides first weights, order and augmentation: the same in both frameworks."""
    precision: Annotated[str, _shown("{float32,float64,bfloat16}")]
    """Of the network; bfloat16 is for convolutions and decoder alone."""
    device: Annotated[str, _shown("NAME")]
    """Where to compute: cpu, or cuda."""
    compile: bool
    """Run the network through the framework's compiler (JAX always does)."""
    clip_norm: Annotated[float | None, _shown("FLOAT", "no clipping")]
    """Scale gradients down to this norm where it is larger."""
    ema: Annotated[float | None, _shown("FLOAT", "no averages")]
    """Keep moving averages of the weights with this decay, 0.999 say, and evaluate them too."""
    lean: bool
    """Route without storing the votes."""
    block: Annotated[int | None, _shown("INT", "from the sizes")]
    """Input capsules whose votes lean routing holds at a time."""
    checkpoint_every: int
    """Steps between checkpoints; 0: at the end of each epoch alone."""
    out: Annotated[str | None, _shown("DIR", "runs/PRESET-DATASET-BACKEND-SEED")]
    """The run folder to make."""
    resume: Annotated[str | None, _shown("{RUN,auto}", "start anew")]
    """Go on with a run folder; auto: the one at --out, or a new one."""


def main(argv: Sequence[str] | None = None, prog: str = "train.py") -> int:
    """Train as the command line says; returns the exit code."""

    def parse(default: Flags) -> Flags:
        return tyro.cli(Flags, prog=prog, args=argv, default=default)

    # Twice: first for what decides the defaults of the second, and for --help before any import.
    first = parse(_defaults("sabour2017", "mnist-mini"))
    with _reporting() as code:
        place = processes.place()
        if place is None:
            _train(first, parse)
        else:
            _train_together(first, parse, place)
    return code[0]


def call(module: str, function: str, argv: Sequence[str], prog: str) -> int:
    """Call a function of one of our modules with the arguments that its signature describes.

    Required arguments go without flags, unless the function takes all of them by name alone.
    Returns what it returns as the exit code, 0 for None, and 2 after a mistake of the user.
    """
    with _reporting() as code:
        run = getattr(importlib.import_module(module), function)
        arguments = inspect.signature(run).parameters.values()
        by_place = any(each.kind is not each.KEYWORD_ONLY for each in arguments)
        config = (tyro.conf.FlagCreatePairsOff, *[tyro.conf.PositionalRequiredArgs] * by_place)
        code[0] = tyro.cli(run, prog=prog, args=argv, config=config) or 0
    return code[0]


@contextlib.contextmanager
def _reporting(place: Place | None = None) -> Iterator[list[int]]:
    """Turn a mistake of the user into one message and exit code 2, an interruption into 130.

    One of several processes is named in its messages; the first alone tells of an interruption.
    """
    who = "" if place is None else f"{place}: "
    from parity.files import RunWarning

    code = [0]
    show = warnings.showwarning

    def tell(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, RunWarning):
            print(f"warning: {message}", file=sys.stderr)
        else:
            show(message, category, *place, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("always", RunWarning)
        warnings.showwarning = tell
        try:
            yield code
        except TwincapsError as error:
            print(f"error: {who}{error}", file=sys.stderr)
            code[0] = 2
        except KeyboardInterrupt as error:
            if place is None or place.rank == 0:
                print(str(error) or "interrupted", file=sys.stderr)
            code[0] = 130
        except BrokenPipeError:  # whoever read the output has left, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code[0] = 141


def _train_together(first: Flags, parse: Callable[[Flags], Flags], place: Place) -> None:
    """`_train`, and the end: what frameworks do last may wait for processes that are gone."""
    with _reporting(place) as code:
        try:
            _train(first, parse, place)
        except Exception as error:
            if not isinstance(error, TwincapsError | BrokenPipeError):
                processes.leave(1, error)
            raise
    processes.leave(code[0])


def _train(first: Flags, parse: Callable[[Flags], Flags], place: Place | None = None) -> None:
    from parity import data, runs

    path = _resumed(first)
    if path is not None and (first.resume != "auto" or runs.holds_run(path)):
        with runs.Run.open(path, read_only=place is not None and place.rank > 0) as run:
            known = _flags(run.preset, run.training, run.options, str(path), first.resume)
            _go_on(run, known, parse(known), place)
    else:
        data.entry(first.dataset)
        _begin(parse(_defaults(first.preset, first.dataset)), path, place)


def _recipe(preset: str, dataset: str) -> TrainingSpec:
    """The preset's training as the data set's recipe changes it."""
    recipe = RECIPES.get(dataset, {})
    return dataclasses.replace(preset_card(preset).training, dataset=dataset, **recipe)


def _defaults(preset: str, dataset: str) -> Flags:
    return _flags(preset, _recipe(preset, dataset), RunOptions(), None, None)


def _flags(
    preset: str, training: TrainingSpec, options: RunOptions, out: str | None, resume: str | None
) -> Flags:
    return Flags(
        preset=preset, out=out, resume=resume, **_pick(Flags, training), **_pick(Flags, options)
    )


def _pick(kind: type, source: Any) -> dict[str, Any]:
    """The fields of a dataclass that `source` has too."""
    names = [each.name for each in dataclasses.fields(kind)]
    return {name: getattr(source, name) for name in names if hasattr(source, name)}


def _options(flags: Flags, before: RunOptions) -> RunOptions:
    options = dataclasses.replace(before, **_pick(RunOptions, flags))
    if flags.data_dir is None:
        return options
    return dataclasses.replace(options, data_dir=str(Path(flags.data_dir).expanduser().absolute()))


def _resumed(flags: Flags) -> Path | None:
    """Where the run to go on with is or, with `auto`, would be; None without --resume."""
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

    card = preset_card(flags.preset)
    recipe = _recipe(flags.preset, flags.dataset)
    training = dataclasses.replace(recipe, **_pick(TrainingSpec, flags))
    options = _options(flags, RunOptions())
    out = path or (Path(flags.out) if flags.out else _free(_default_out(flags)))
    runs.refuse_occupied(out)
    dataset = data.load(flags.dataset, options.data_dir)
    batches.per_epoch(dataset.train, training)
    image, classes = dataset.train.shape, dataset.classes
    spec = dataclasses.replace(card.network, image=image, classes=classes)
    trainer = make_trainer(spec, training, options, dataset, several=True, place=place)
    if _follows(place, trainer, dataset):
        return
    with runs.Run.create(out, spec, training, options, flags.preset) as run:
        _announce(run, trainer)
        _finish(run, trainer, dataset)


def _go_on(run: "Run", known: Flags, flags: Flags, place: Place | None) -> None:
    from parity import data

    changeable = ", ".join(RESUMABLE[:-1]).replace("_", "-")
    changeable += f" and {RESUMABLE[-1].replace('_', '-')}"
    for each in dataclasses.fields(Flags):
        before, now = getattr(known, each.name), getattr(flags, each.name)
        if each.name == "out":
            before, now = Path(before), Path(now or "")
        if before != now and each.name not in RESUMABLE:
            raise UsageError(
                f"--{each.name.replace('_', '-')} {now}: the run at {run.path} has {before}; "
                f"--resume may change {changeable} alone: leave it out, or start another run"
            )
    training = dataclasses.replace(run.training, epochs=flags.epochs)
    options = _options(flags, run.options)
    dataset = data.load(training.dataset, options.data_dir)
    trainer = make_trainer(run.spec, training, options, dataset, several=True, place=place)
    if _follows(place, trainer, dataset):
        return
    if (training, options) != (run.training, run.options):
        run.change(training, options)
    _announce(run, trainer)
    _finish(run, trainer, dataset)


def make_trainer(
    spec: NetworkSpec,
    training: TrainingSpec,
    options: RunOptions,
    dataset: "Dataset | None" = None,
    *,
    several: bool = False,
    place: Place | None = None,
) -> "Trainer":
    """The Trainer of the wing that `options` names, for a data set that suits it, if any is given.

    Sets that wing's precision, determinism and cache of compiled code, and that freed memory is
    kept, for the whole process.
    With `several` it trains on all devices that this wing uses at once, and together with the
    other processes of a `place`. Raises UsageError where its framework, naming the extra to
    install, or the device is missing; ProcessError for a batch that cannot be shared.
    """
    from parity import allocator, cache, loop

    if dataset is not None:
        loop.check(spec, dataset)
    backend = options.backend
    allocator.keep()
    try:
        numerics = importlib.import_module(f"{backend}_caps.numerics")
        numerics.strict(training.precision)
        if (kept := cache.folder()) is not None:
            numerics.cache(kept)
        wing = importlib.import_module(f"{backend}_caps.training")
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in EXTRAS[backend]:
            raise
        raise UsageError(
            f"--backend {backend}: {missing} is not installed; "
            f"install it with: pip install 'twincaps[{backend}]'"
        ) from None
    how = {name: getattr(options, name) for name in ("device", "compile", "lean", "block")}
    group = None
    try:
        if several and (group := _join(backend, options.device, training, place)) is not None:
            how["group"] = group
        return wing.Trainer(spec, training, **how)
    except (RuntimeError, AssertionError) as error:
        if group is not None and (reason := group.lost(error)) is not None:
            raise ProcessError(f"another process is gone before step 1 ({reason})") from error
        if options.device == "cpu":
            raise
        said = str(error).splitlines()[0]
        raise UsageError(f"--device {options.device}: {said}; try --device cpu") from error


def _join(backend: str, device: str, training: TrainingSpec, place: Place | None) -> Any:
    join = importlib.import_module(f"{backend}_caps.processes").join
    if place is None:
        group = join(device=device)
    else:
        processes.check_batch(training.batch_size, place.count)
        address = processes.address(backend)
        group = join(place.rank, place.count, place.local, address, device)
    processes.rows(group, training.batch_size)  # refuses a batch that its devices cannot share
    return group


def _announce(run: "Run", trainer: "Trainer") -> None:
    from parity import loop

    training, options = run.training, run.options
    where = options.device + processes.told(loop.group_of(trainer))
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
    print(f"run folder {run.path}", flush=True)


def _finish(run: "Run", trainer: "Trainer", dataset: "Dataset") -> None:
    from parity import loop

    with processes.parting(loop.group_of(trainer)):
        history = loop.train(trainer, dataset, run)
    if not history.lines:
        print(f"nothing to train: {run.training.epochs} epochs are done; --epochs N adds more")
    if history.accuracy is not None:
        error = 1 - history.accuracy
        print(f"test accuracy {history.accuracy:.4f} (error {error:.2%}), best {history.best:.4f}")
    if history.lines:
        _illustrate(run, trainer, dataset)
    print(f"evaluate it with: python -m parity evaluate {run.path}")


def _follows(place: Place | None, trainer: "Trainer", dataset: "Dataset") -> bool:
    """Whether this is not the first process, which alone writes and speaks: it has trained then."""
    if place is None or place.rank == 0:
        return False
    from parity import loop

    with processes.parting(loop.group_of(trainer)):
        loop.train(trainer, dataset, progress=False)
    return True


def _illustrate(run: "Run", trainer: "Trainer", dataset: "Dataset") -> None:
    """Draw the figures of a training that is over, or say in a line why there are none."""
    from parity.figures import command

    try:
        command.illustrate(run, trainer, dataset)
    except Exception as error:  # whatever it is, the training went well
        print(f"no figures: {error}; then: python -m parity figures {run.path}")
