"""Finds a saved network, and what it was trained on: what every verb takes."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from parity import runs, weights
from parity.data import Dataset
from parity.data.registry import described
from parity.runs import Run, RunError, checkpoints
from parity.spec import NetworkSpec, RunOptions, TrainedOn, TrainingSpec, TwincapsError
from parity.weights import Arrays
from parity.wing.load import make_trainer
from parity.wing.trainer import Trainer


@dataclass(frozen=True, eq=False)
class Known:
    """A network as it was saved.

    Attributes:
        source: In words, what it is.
        arrays: Its weights, or their moving averages where those were asked for.
        trained_on: As it was saved with it; of the data set's name alone where only that is known.
        training, options, preset: Of its run, None and "" where it is not in one.
    """

    source: str
    spec: NetworkSpec
    arrays: Arrays
    trained_on: TrainedOn
    training: TrainingSpec | None = None
    options: RunOptions | None = None
    preset: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Of its classes, in the order of the class capsules."""
        return self.trained_on.names(self.spec.classes)

    def trainer(
        self, training: TrainingSpec, options: RunOptions, dataset: Dataset | None = None
    ) -> Trainer:
        """The Trainer of a wing with these weights, in the precision of `training`.

        Raises as `make_trainer` does.
        """
        made = make_trainer(self.spec, training, options, dataset)
        state = made.get_state()
        held = {name: self.arrays[name].astype(a.dtype) for name, a in state["weights"].items()}
        made.set_state({**state, "weights": held})
        return made


def find(name: str, averaged: bool = False) -> Known:
    """A network that comes with twincaps, by its name, or that of a run, checkpoint or file.

    Args:
        name: A name of `weights.pretrained_names()`, a run folder (its newest checkpoint), one
            checkpoint of it, or a .safetensors file.
        averaged: Moving averages of the weights instead, of a run trained with `ema`.

    Raises:
        TwincapsError: Where there is no such thing, or it is not whole.
    """
    if name in weights.pretrained_names():
        if averaged:
            raise TwincapsError(f"{name}: has no averages beside its weights; leave --ema out")
        about = described(name.removeprefix("small-"))
        return Known(name, *weights.load_pretrained(name), about)
    path = Path(name)
    if not path.exists():
        raise TwincapsError(
            f"{name}: no such run or file, and no network of that name comes with twincaps; "
            f"expected one of {', '.join(weights.pretrained_names())}, or a path"
        )
    if runs.holds_run(path):
        with Run.open(path, read_only=True) as run:
            newest = run.newest()
        if newest is None:
            raise RunError(f"{path}: has no checkpoint yet; go on with it by --resume {path}")
        return _checkpoint(newest.path, run, averaged)
    run = None
    if path.is_dir():
        with contextlib.suppress(RunError):  # it lies in no run, or in one that was damaged
            run = Run.open(path.resolve().parent.parent, read_only=True)
    return _checkpoint(path, run, averaged)


def _checkpoint(path: Path, run: Run | None, averaged: bool) -> Known:
    """The network in a checkpoint, of a run if that is known, or in a file."""
    file = path / "weights.safetensors" if path.is_dir() else path
    spec, arrays = weights.load(file)
    arrays = _averages(path, spec) if averaged else arrays
    told = weights.trained_on(file)
    if run is None:
        return Known(str(path), spec, arrays, told or TrainedOn())
    source = f"run {run.path.name} at step {int(path.name.removeprefix('step-'))}"
    about = run.trained_on or told or described(run.training.dataset, run.options.data_dir)
    return Known(source, spec, arrays, about, run.training, run.options, run.preset)


def _averages(path: Path, spec: NetworkSpec) -> Arrays:
    """The moving averages of the weights beside those of a checkpoint."""
    if not path.is_dir():
        raise RunError(f"{path}: no run or checkpoint; averages of weights are in these alone")
    found = weights.averages(checkpoints.read(path, spec).optimizer)
    if not found:
        raise RunError(
            f"{path}: its weights were not averaged; a TrainingSpec with ema=0.999 does that"
        )
    return found
