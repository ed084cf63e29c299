"""Finds a saved network, and what it was trained on: what every verb takes."""

import contextlib
import dataclasses
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from parity import data, runs, weights
from parity.data import Dataset
from parity.data.registry import described
from parity.runs import Checkpoint, Run, RunError, RunWarning, checkpoints
from parity.spec import Backend, NetworkSpec, RunOptions, TrainedOn, TrainingSpec, TwincapsError
from parity.weights import Arrays, folders
from parity.wing.load import make_trainer
from parity.wing.trainer import Trainer


@dataclass(frozen=True, eq=False)
class Known:
    """A network as it was saved.

    Attributes:
        name: As it was asked for.
        source: In words, what it is.
        arrays: Its weights, or their moving averages where those were asked for.
        trained_on: As it was saved with it; of the data set's name alone where only that is known.
        training: Of its run, None where it is not in one.
        options: Alike.
        preset: Alike, "" where it is not in one.
    """

    name: str
    source: str
    spec: NetworkSpec
    arrays: Arrays = field(repr=False)
    trained_on: TrainedOn
    training: TrainingSpec | None = None
    options: RunOptions | None = None
    preset: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Of its classes, in the order of the class capsules."""
        return self.trained_on.names(self.spec.classes)

    def asked(
        self, backend: Backend | None, dataset: str | None, data_dir: str | None
    ) -> tuple[TrainingSpec, RunOptions, Dataset]:
        """What it is asked about by a verb, and its training and options with that.

        Each argument is that of the training, or the usual, unless given. Raises TwincapsError
        where no data set is known, or its classes have changed since the training; warns where its
        test images have, or where it is another data set with other classes.
        """
        if not (name := dataset or self.trained_on.dataset):
            raise TwincapsError(
                f"{self.name}: does not say what it was trained on; name the data set with "
                "--dataset"
            )
        training, options = self.training or TrainingSpec(), self.options or RunOptions()
        training = dataclasses.replace(training, dataset=name, ema=None, validation=0)
        options = dataclasses.replace(options, backend=backend or options.backend)
        images = data.load(name, data_dir or options.data_dir)
        self._compare(images)
        return training, options, images

    def _compare(self, images: Dataset) -> None:
        before, now = self.trained_on, data.fingerprint(images)
        if before.dataset != now.dataset:
            if before.dataset and before.class_names != now.class_names:
                what = f"was trained on {before.dataset}, and is asked about {now.dataset}"
                warnings.warn(f"{self.name}: {what}, other classes", RunWarning, stacklevel=3)
        elif classes := data.renamed(before, now):
            raise TwincapsError(
                f"{self.name}: the classes of {now.dataset} are no longer those it was trained on "
                f"({classes}); give the folders their old names, or train again"
            )
        elif test := data.changed(before.test, now.test, "test"):
            what = f"{now.dataset} is not what it was in training ({test})"
            warnings.warn(f"{self.name}: {what}", RunWarning, stacklevel=3)

    def trainer(
        self, training: TrainingSpec, options: RunOptions, dataset: Dataset | None = None
    ) -> Trainer:
        """The Trainer of a wing with these weights, in the precision of `training`.

        Raises as `make_trainer` does.
        """
        trainer = make_trainer(self.spec, training, options, dataset)
        state = trainer.get_state()
        arrays = {name: self.arrays[name].astype(a.dtype) for name, a in state["weights"].items()}
        trainer.set_state({**state, "weights": arrays})
        return trainer


def find(name: str, averaged: bool = False) -> Known:
    """A saved network by its name: one of the package, a run, checkpoint or file.

    Args:
        name: A name of `weights.pretrained_names()`, a run folder (its newest checkpoint), one
            checkpoint of it, a .safetensors file, or a folder of `save_pretrained`.
        averaged: Moving averages of the weights instead, of a run trained with `ema`.

    Raises:
        TwincapsError: Where there is no such thing, or it is not whole.
    """
    if name in weights.pretrained_names():
        if averaged:
            raise TwincapsError(f"{name}: has no averages beside its weights; leave --ema out")
        spec, arrays, about = weights.load_known(weights.pretrained_file(name))
        _, dataset = name.split("-", 1)  # that of the oldest files, which do not say
        return Known(name, name, spec, arrays, about or described(dataset))
    path = Path(name)
    if not path.exists():
        raise TwincapsError(
            f"{name}: no such run or file, and no network of that name comes with twincaps; "
            f"expected one of {', '.join(weights.pretrained_names())}, or a path"
        )
    if runs.holds_run(path):
        run, newest = runs.chosen(path)
        arrays = _averages(newest) if averaged else newest.weights
        return _of_run(name, run, newest.path, run.spec, arrays, run.trained_on)
    if (path / folders.MODEL).is_file():
        path = path / folders.MODEL
    file = path / "weights.safetensors" if path.is_dir() else path
    spec, arrays, about = weights.load_known(file)
    if averaged:
        if not path.is_dir():
            raise RunError(f"{path}: no run or checkpoint; averages of weights are in these alone")
        arrays = _averages(checkpoints.read(path, spec))
    if path.is_dir():
        with contextlib.suppress(RunError):  # it lies in no run, or in one that was damaged
            run = Run.open(path.resolve().parent.parent, read_only=True)
            return _of_run(name, run, path, spec, arrays, run.trained_on or about)
    return Known(name, str(path), spec, arrays, about or TrainedOn())


def _of_run(
    name: str, run: Run, path: Path, spec: NetworkSpec, arrays: Arrays, about: TrainedOn | None
) -> Known:
    """The network in a checkpoint of a run.

    Of an old run, what it was trained on is what its data set declares.
    """
    source = f"run {run.path.name} at step {int(path.name.removeprefix('step-'))}"
    about = about or described(run.training.dataset, run.options.data_dir)
    return Known(name, source, spec, arrays, about, run.training, run.options, run.preset)


def _averages(checkpoint: Checkpoint) -> Arrays:
    """The moving averages of the weights beside those of a checkpoint."""
    averages = weights.averages(checkpoint.optimizer)
    if not averages:
        raise RunError(
            f"{checkpoint.path}: its weights were not averaged; a TrainingSpec with ema=0.999 does "
            "that"
        )
    return averages
