"""The one training loop: a Trainer, NumPy batches, a run, and no framework."""

import contextlib
import json
import math
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from parity import schedule
from parity.data import Batch, Dataset, batches, changed, fingerprint, renamed
from parity.data.holdout import hold_out
from parity.data.splits import alike
from parity.loop.diagnosis import drawn, since, spoilt
from parity.loop.place import Place
from parity.loop.prefetch import Prefetch
from parity.loop.scoring import epoch_scores, total, validation_accuracy
from parity.loop.signals import Stopped, signals
from parity.loop.terminal import shows
from parity.loop.watcher import Line, Watcher, tell
from parity.runs import Run, checkpoints
from parity.runs.checkpoints import Checkpoint
from parity.runs.disk import RunError, RunWarning
from parity.wing import processes
from parity.wing.processes import ProcessError
from parity.wing.trainer import Trainer, check


@dataclass
class History:
    """What a call of `train` did.

    Attributes:
        lines: One dictionary a training step and an evaluation, as in metrics.jsonl.
        accuracy: On the test set at the end, None if it ended before its first evaluation.
        best: The best score of the whole run, by which its best checkpoint is kept: the accuracy on
            validation images where there are some, else on the test set.
        seconds: Spent in training steps and waiting for batches; `waited` is the latter alone.
    """

    lines: list[Line] = field(default_factory=list)
    accuracy: float | None = None
    best: float | None = None
    seconds: float = 0.0
    waited: float = 0.0

    def __repr__(self) -> str:
        counts = Counter(line["event"] for line in self.lines)
        accuracy = "none" if self.accuracy is None else f"{self.accuracy:.4f}"
        return (
            f"History({counts['train']:,} steps, {counts['eval']:,} evaluations, "
            f"accuracy {accuracy}, {self.seconds:.1f} s)"
        )

    @property
    def waiting(self) -> float:
        """The share of the training time spent waiting for batches."""
        return self.waited / self.seconds if self.seconds else 0.0


def train(
    trainer: Trainer,
    dataset: Dataset,
    run: Run | None = None,
    *,
    progress: bool = True,
    watchers: Sequence[Watcher] = (),
) -> History:
    """Trains to the end of `trainer.training`, from the run's newest checkpoint.

    With `validation` in its training, that many training images are held out to choose by. Writes
    metrics and checkpoints to the run; without one, nothing is written. Ctrl-C, SIGTERM, SIGHUP,
    SIGUSR1 and SIGUSR2 end it with a checkpoint, as `Stopped`. A loss or a weight that is not
    finite raises RunError with the step and the first tensor that was not, and the last good
    checkpoint stays. Of several processes only the first has the run, and watchers;
    ProcessError, where another is gone.

    Args:
        trainer: What is trained: a wing's Trainer, or another of its protocol.
        dataset: Of images and classes as the network takes them.
        run: The run folder.
        progress: Whether to show a bar or lines, and to write TensorBoard's events to the run.
        watchers: Each is called with every line of metrics, a plain dictionary, after it was
            written: `train(line)` after a step, `eval(line)` after an evaluation, and `close()`
            at the end, also after an error. One that raises is dropped with a warning.
    """
    check(trainer.spec, dataset)
    with signals() as stop, contextlib.ExitStack() as shown:
        session = _Session(trainer, dataset, run, stop)
        shown.enter_context(session.together())
        session.restore()
        if session.first:
            if progress:
                folder = None if run is None else run.path
                session.watchers += shows(trainer, dataset.test, session.per_epoch, folder)
            session.watchers += watchers
            shown.callback(tell, session.watchers, "close")
        try:
            while session.at.epoch < trainer.training.epochs:
                session.run_epoch()
        except _Stop:
            session.save()
            raise Stopped(session.at.interrupted()) from None
    return session.history


class _Stop(Exception):  # noqa: N818 (no error)
    """Raised between two batches once a signal has come."""


class _Session:
    """One training: its Trainer and data, its run and processes, and where it stands."""

    def __init__(
        self, trainer: Trainer, dataset: Dataset, run: Run | None, stop: threading.Event
    ) -> None:
        self.trainer, self.run, self.stop = trainer, run, stop
        self.training = trainer.training
        held = hold_out(dataset, self.training)
        self.dataset = alike(held, train=batches.augmented(held.train, self.training))
        self.per_epoch = batches.per_epoch(self.dataset.train, self.training)
        self.group = processes.group_of(trainer)
        self.first = self.group is None or self.group.rank == 0
        self.rows = processes.rows(self.group, self.training.batch_size)
        self.at = Place(None if run is None else run.path)
        self.saved = self._place()
        # The first state, where neither the seed draws it nor a checkpoint holds it.
        self.began: dict[str, Any] | None = None
        self.history, self.watchers = History(), list[Watcher]()

    def _place(self) -> tuple[int, int, int]:
        return self.at.step, self.at.epoch, self.at.cursor

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Turns the errors that come of another process's end into one that says so."""
        try:
            yield
        except Exception as error:
            reason = None if self.group is None else self.group.lost(error)
            if reason is None:
                raise
            raise ProcessError(self.at.parted(reason)) from error

    def restore(self) -> None:
        """Goes on from the run's newest checkpoint; all processes from that of the first."""
        run, checkpoint = self.run, None
        if run is not None:
            if (run.spec, run.training) != (self.trainer.spec, self.training):
                raise RunError(
                    f"{run.path}: the trainer has another network or training than the run"
                )
            checkpoint = run.newest()
            _recognise(run, self.dataset, new=checkpoint is None)
        if self.group is not None:
            place = None if checkpoint is None else str(checkpoint.path)
            message = json.dumps([None if run is None else str(run.path), place])
            folder, place = json.loads(self.group.share(message))
            self.at.folder = None if folder is None else Path(folder)
            if place is not None and checkpoint is None:
                checkpoint = checkpoints.read(Path(place), self.trainer.spec)
        if checkpoint is not None:
            self._go_on(checkpoint)
        else:
            self._begin()
        if run is not None:
            run.cut_metrics(checkpoint)

    def _begin(self) -> None:
        """Begins at the trainer's state, from which faults are traced later."""
        state = self.trainer.get_state()
        if self.at.folder is not None and state["step"] != 0:
            raise RunError(
                f"{self.at.folder}: is new, and the trainer did {state['step']} steps before it"
            )
        if self.group is None and not drawn(state, self.trainer.spec, self.training):
            self.began = state

    def _go_on(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        step = state.epoch * self.per_epoch + state.cursor
        if (state.seed, state.step) != (self.training.seed, step):
            raise RunError(
                f"{checkpoint.path}: is of seed {state.seed} and step {state.step}, but the run "
                f"has seed {self.training.seed} and this data set puts it at step {step}; use "
                "the data the run began with"
            )
        self.trainer.set_state(checkpoint.trainer_state)
        self.at.step, self.at.epoch, self.at.cursor = state.step, state.epoch, state.cursor
        self.at.checkpoint, self.saved = checkpoint.path, self._place()
        self.history.accuracy, self.history.best = state.accuracy, state.best

    def run_epoch(self) -> None:
        """Trains to the end of the present epoch, evaluates, saves."""
        every, at = 0 if self.run is None else self.run.options.checkpoint_every, self.at
        source = batches.training(self.dataset.train, self.training, at.epoch, at.cursor, self.rows)
        prefetch = Prefetch(source)
        last = time.perf_counter()
        try:
            with contextlib.closing(prefetch.__iter__()) as items:
                for batch in self._until_stopped(items):
                    measured = self.trainer.step(batch.images, batch.labels, batch.made_of)
                    seconds = time.perf_counter() - last
                    self.history.seconds += seconds
                    self._stepped(measured, self.training.batch_size / seconds)
                    if every and at.step % every == 0 and at.cursor < self.per_epoch:
                        self.save()
                    last = time.perf_counter()  # what was shown and saved is no part of a step
        finally:
            self.history.waited += prefetch.waited
        self._evaluate()

    def _stepped(self, measured: dict[str, float], speed: float) -> None:
        if not math.isfinite(measured["loss"]):
            at = f"step {self.at.step + 1} of epoch {self.at.epoch + 1}"
            self._refuse(f"the loss is {measured['loss']} at {at}", self.at.step + 1)
        self.at.step, self.at.cursor = self.at.step + 1, self.at.cursor + 1
        self._record("train", measured, measured["learning_rate"], speed)

    def _evaluate(self) -> None:
        began = time.perf_counter()
        measured, more = epoch_scores(
            self.trainer, self.dataset, self._score, averages=self.training.ema is not None
        )
        speed = measured["count"] / (time.perf_counter() - began)
        rate = schedule.learning_rate(self.training, self.at.step - 1)
        self._record("eval", measured, rate, speed, **more)
        accuracy, validation = measured["accuracy"], validation_accuracy(more)
        score = accuracy if validation is None else validation
        self.history.accuracy = accuracy
        self.history.best = max(score, self.history.best or 0.0)
        self.at.epoch, self.at.cursor = self.at.epoch + 1, 0
        self.save(accuracy, validation)

    def _score(self, which: str) -> dict[str, Any]:
        """Loss, accuracy and count of a split, `test` or `validation`."""
        split = getattr(self.dataset, which)
        padded = batches.evaluation(split, self.training.batch_size, self.rows)
        measured = total(self.trainer, self._until_stopped(padded))
        if not math.isfinite(measured["loss"]):
            at = f"step {self.at.step}, the end of epoch {self.at.epoch + 1}"
            self._refuse(f"the {which} loss is {measured['loss']} at {at}", self.at.step)
        return measured

    def _record(
        self,
        event: str,
        measured: dict[str, float],
        rate: float,
        speed: float,
        **more: float,
    ) -> None:
        line = {
            "event": event,
            "epoch": self.at.epoch + 1,
            "step": self.at.step,
            "loss": measured["loss"],
            "accuracy": measured["accuracy"],
            "learning_rate": rate,
            "images_per_second": float(f"{speed:.4g}"),
            **more,
        }
        if self.run is not None:
            self.run.append(line)
        self.history.lines.append(line)
        tell(self.watchers, event, line)

    def save(self, accuracy: float | None = None, validation: float | None = None) -> None:
        """Writes a checkpoint, unless there is one of this step already."""
        if self.run is None or self._place() == self.saved:
            return
        state = self.trainer.get_state()
        if name := spoilt(state["weights"]) or spoilt(state["optimizer"]):
            self._refuse(f"{name} is not finite at step {self.at.step}", self.at.step)
        self.at.checkpoint = self.run.save(
            state,
            epoch=self.at.epoch,
            cursor=self.at.cursor,
            accuracy=accuracy,
            best=self.history.best,
            validation=validation,
        )
        self.saved, self.began = self._place(), None

    def _refuse(self, what: str, done: int) -> NoReturn:
        """Raises RunError, naming the first tensor that is not finite, if it is found.

        Args:
            what: The number that is not finite, and where.
            done: Steps that were done, counted or not.
        """
        if self.group is not None:  # the others do not do the steps again
            cause = "--resume it with one process to have the first such tensor named"
        else:
            cause = since(self.trainer, self.dataset, self.run, self.began, done)
        raise RunError(self.at.not_finite(what, cause))

    def _until_stopped(self, items: Iterable[Batch]) -> Iterator[Batch]:
        for item in items:
            stop = self.stop.is_set()
            if stop if self.group is None else self.group.any(stop):
                raise _Stop
            yield item


def _recognise(run: Run, dataset: Dataset, *, new: bool) -> None:
    """Saves what a new run is trained on; refuses altered data in a resumed one."""
    now, before = fingerprint(dataset), run.trained_on
    if before is None:
        if new:
            run.remember(now)
        return  # a run made before this was saved: nothing to compare
    names = renamed(before, now)
    if fault := changed(before.train, now.train, "training"):
        faults = "; ".join(filter(None, (fault, names)))
        raise RunError(
            f"{run.path}: was trained on other data than {now.dataset} is now ({faults}); bring "
            "the data back, or start another run with --out"
        )
    if fault := names or changed(before.test, now.test, "test"):
        warnings.warn(
            f"{run.path}: {now.dataset} is not what it was ({fault}); the run keeps the names "
            "of its classes, and its test accuracies before and after may not compare",
            RunWarning,
            stacklevel=2,
        )
