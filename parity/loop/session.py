"""The one training loop: it knows a Trainer, NumPy batches and a run, and no framework."""

import contextlib
import json
import math
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parity import schedule, weights
from parity.data import Batch, Dataset, Split, batches, changed, fingerprint, renamed
from parity.data.holdout import hold_out
from parity.loop.diagnosis import drawn, since, spoilt
from parity.loop.prefetch import Prefetch
from parity.loop.scoring import averaged, total
from parity.loop.signals import Stopped, signals
from parity.loop.terminal import watchers
from parity.loop.watcher import Line, Watcher, tell
from parity.runs import Run, checkpoints
from parity.runs.checkpoints import Checkpoint
from parity.runs.disk import RunError, RunWarning
from parity.wing import processes
from parity.wing.processes import ProcessError
from parity.wing.trainer import Trainer, check

VALIDATED = "validation_accuracy", f"{weights.AVERAGE}_validation_accuracy"
MEND = "try a smaller --learning-rate, or --clip-norm 1"


@dataclass
class History:
    """What a call of `train` did.

    lines     one dictionary a training step and an evaluation, as in metrics.jsonl
    accuracy  on the test set at the end, None if it ended before its first evaluation
    best      the best score of the whole run, by which its best checkpoint is kept: the accuracy
              on validation images where there are some, else on the test set
    seconds   spent in training steps and waiting for batches; `waited` is the latter alone
    """

    lines: list[Line] = field(default_factory=list)
    accuracy: float | None = None
    best: float | None = None
    seconds: float = 0.0
    waited: float = 0.0

    @property
    def waiting(self) -> float:
        """The share of the training time spent waiting for batches."""
        return self.waited / self.seconds if self.seconds else 0.0


def train(
    trainer: Trainer, dataset: Dataset, run: Run | None = None, *, progress: bool = True
) -> History:
    """Train to the end of `trainer.training`, from the newest checkpoint of the run, if any.

    With `validation` in its training, so many training images are held out to choose by. Writes
    metrics and checkpoints to the run; without one, nothing is written. Ctrl-C, SIGTERM, SIGHUP,
    SIGUSR1 and SIGUSR2 end it with a checkpoint, as `Stopped`. A loss or a weight that is not
    finite raises RunError with the step and the first tensor that was not, and the last good
    checkpoint stays. Of several processes only the first has the run, and shows progress;
    ProcessError, where another is gone.
    """
    check(trainer.spec, dataset)
    with signals() as stop, contextlib.ExitStack() as shown:
        session = _Session(trainer, dataset, run, stop)
        shown.enter_context(session.together())
        session.restore()
        if progress and session.first:
            folder = None if run is None else run.path
            session.watchers = watchers(trainer, dataset.test, session.per_epoch, folder)
            shown.callback(tell, session.watchers, "close")
        try:
            while session.epoch < trainer.training.epochs:
                session.run_epoch()
        except _Stop:
            session.save()
            raise Stopped(session.how_to_go_on()) from None
    return session.history


class _Stop(Exception):  # noqa: N818 (no error)
    """Raised between two batches once a signal has come."""


class _Session:
    """Where training stands: `epoch` whole epochs, and `cursor` batches of the next one."""

    def __init__(
        self, trainer: Trainer, dataset: Dataset, run: Run | None, stop: threading.Event
    ) -> None:
        self.trainer, self.run, self.stop = trainer, run, stop
        self.training = trainer.training
        self.dataset = hold_out(dataset, self.training)
        self.per_epoch = batches.per_epoch(self.dataset.train, self.training)
        self.group = processes.group_of(trainer)
        self.first = self.group is None or self.group.rank == 0
        self.rows = processes.rows(self.group, self.training.batch_size)
        self.folder = None if run is None else run.path
        self.step = self.epoch = self.cursor = 0
        self.saved: tuple[int, int, int] = (0, 0, 0)
        self.began: dict[str, Any] | None = (
            None  # the state, unless the seed draws it or it is saved
        )
        self.last: Path | None = None
        self.history, self.watchers = History(), list[Watcher]()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Turns the errors that come of another process's end into one that tells of it."""
        try:
            yield
        except Exception as error:
            reason = None if self.group is None else self.group.lost(error)
            if reason is None:
                raise
            raise ProcessError(self._alone(reason)) from error

    def restore(self) -> None:
        """Go on from the newest checkpoint of the run; all processes from the one of the first."""
        run, checkpoint = self.run, None
        if run is not None:
            if (run.spec, run.training) != (self.trainer.spec, self.training):
                raise RunError(
                    f"{run.path}: the trainer has another network or training than the run"
                )
            checkpoint = run.newest()
            self._recognise(run, checkpoint is None)
        if self.group is not None:
            place = None if checkpoint is None else str(checkpoint.path)
            told = json.dumps([None if run is None else str(run.path), place])
            folder, place = json.loads(self.group.share(told))
            self.folder = None if folder is None else Path(folder)
            if place is not None and checkpoint is None:
                checkpoint = checkpoints.read(Path(place), self.trainer.spec)
        if checkpoint is not None:
            self._restore(checkpoint)
        else:
            self._begin()
        if run is not None:
            run.cut_metrics(checkpoint)

    def _begin(self) -> None:
        """Begin where the trainer stands, which is held to find faults of the first steps from."""
        state = self.trainer.get_state()
        if self.folder is not None and state["step"] != 0:
            raise RunError(
                f"{self.folder}: is new, and the trainer did {state['step']} steps before it"
            )
        if self.group is None and not drawn(state, self.trainer.spec, self.training):
            self.began = state

    def _recognise(self, run: Run, new: bool) -> None:
        """Hold what a new run is trained on; of one that goes on, refuse data that changed."""
        now, before = fingerprint(self.dataset), run.trained_on
        if before is None:
            if new:
                run.remember(now)
            return  # an old run that goes on: nobody knows
        names = renamed(before, now)
        if told := changed(before.train, now.train, "training"):
            told += f"; {names}" if names else ""
            raise RunError(
                f"{run.path}: was trained on other data than {now.dataset} is now ({told}); bring "
                "the data back, or start another run with --out"
            )
        if told := names or changed(before.test, now.test, "test"):
            warnings.warn(
                f"{run.path}: {now.dataset} is not what it was ({told}); the run keeps the names "
                "of its classes, and its test accuracies before and after may not compare",
                RunWarning,
                stacklevel=2,
            )

    def _restore(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        step = state.epoch * self.per_epoch + state.cursor
        if (state.seed, state.step) != (self.training.seed, step):
            raise RunError(
                f"{checkpoint.path}: is of seed {state.seed} and step {state.step}, but the run "
                f"has seed {self.training.seed} and this data set puts it at step {step}; use "
                "the data the run began with"
            )
        self.trainer.set_state(checkpoint.trainer_state)
        self.step, self.epoch, self.cursor = state.step, state.epoch, state.cursor
        self.saved, self.last = (state.step, state.epoch, state.cursor), checkpoint.path
        self.history.accuracy, self.history.best = state.accuracy, state.best

    def run_epoch(self) -> None:
        """Train to the end of the present epoch, evaluate, save."""
        every = 0 if self.run is None else self.run.options.checkpoint_every
        source = batches.training(
            self.dataset.train, self.training, self.epoch, self.cursor, self.rows
        )
        prefetch = Prefetch(source)
        last = time.perf_counter()
        try:
            with contextlib.closing(prefetch.__iter__()) as items:
                for batch in self._until_stopped(items):
                    measured = self.trainer.step(batch.images, batch.labels, batch.made_of)
                    seconds = time.perf_counter() - last
                    self.history.seconds += seconds
                    self._stepped(measured, self.training.batch_size / seconds)
                    if every and self.step % every == 0 and self.cursor < self.per_epoch:
                        self.save()
                    last = time.perf_counter()  # what was shown and saved is no part of a step
        finally:
            self.history.waited += prefetch.waited
        self._evaluate()

    def _stepped(self, measured: dict[str, float], speed: float) -> None:
        if not math.isfinite(measured["loss"]):
            raise RunError(
                f"the loss is {measured['loss']} at step {self.step + 1} of epoch "
                f"{self.epoch + 1}; {self._cause(1)}{self._kept()}; {MEND}"
            )
        self.step, self.cursor = self.step + 1, self.cursor + 1
        self._record("train", measured, measured["learning_rate"], speed)

    def _evaluate(self) -> None:
        began = time.perf_counter()
        measured = self._scored("test")
        speed = measured["count"] / (time.perf_counter() - began)
        more = self._validated("")
        if self.training.ema is not None:
            with averaged(self.trainer):
                found = self._scored("test")
                more |= {f"{weights.AVERAGE}_{name}": found[name] for name in ("loss", "accuracy")}
                more |= self._validated(f"{weights.AVERAGE}_")
        rate = schedule.learning_rate(self.training, self.step - 1)
        self._record("eval", measured, rate, speed, **more)
        accuracy = measured["accuracy"]
        validation = max((more[name] for name in VALIDATED if name in more), default=None)
        score = accuracy if validation is None else validation
        self.history.accuracy = accuracy
        self.history.best = max(score, self.history.best or 0.0)
        self.epoch, self.cursor = self.epoch + 1, 0
        self.save(accuracy, validation)

    def _validated(self, whose: str) -> dict[str, float]:
        """Accuracy on the images held out for validation, under its name in metrics.jsonl."""
        if self.dataset.validation is None:
            return {}
        return {f"{whose}validation_accuracy": self._scored("validation")["accuracy"]}

    def _scored(self, which: str) -> dict[str, Any]:
        split: Split = getattr(self.dataset, which)
        padded = batches.evaluation(split, self.training.batch_size, self.rows)
        measured = total(self.trainer, self._until_stopped(padded))
        if not math.isfinite(measured["loss"]):
            raise RunError(
                f"the {which} loss is {measured['loss']} at step {self.step}, the end of epoch "
                f"{self.epoch + 1}; {self._cause()}{self._kept()}; {MEND}"
            )
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
            "epoch": self.epoch + 1,
            "step": self.step,
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
        """Write a checkpoint, unless there is one of this very place already."""
        place = self.step, self.epoch, self.cursor
        if self.run is None or place == self.saved:
            return
        state = self.trainer.get_state()
        if name := spoilt(state["weights"]) or spoilt(state["optimizer"]):
            raise RunError(
                f"{name} is not finite at step {self.step}; {self._cause()}{self._kept()}; {MEND}"
            )
        self.last = self.run.save(
            state,
            epoch=self.epoch,
            cursor=self.cursor,
            accuracy=accuracy,
            best=self.history.best,
            validation=validation,
        )
        self.saved, self.began = place, None

    def how_to_go_on(self) -> str:
        """The message of an interruption."""
        where = f"stopped after step {self.step} of epoch {self.epoch + 1}"
        if self.folder is None:
            return f"{where}; nothing was saved, as there is no run folder"
        return f"{where}; go on with: python train.py --resume {self.folder}"

    def _alone(self, reason: str) -> str:
        """The message where another process is gone."""
        where = f"another process is gone after step {self.step} of epoch {self.epoch + 1}"
        kept, how = "", ""
        if self.folder is not None:
            paths = checkpoints.listed(self.folder / "checkpoints")
            kept = f"; the last checkpoint is {paths[-1]}" if paths else "; there is no checkpoint"
            how = f"; go on with: --resume {self.folder}, with as many processes as you like"
        return f"{where} ({reason}){kept}{how}"

    def _cause(self, more: int = 0) -> str:
        """The first tensor that is not finite since the newest checkpoint, if that can be told.

        more  steps that were done and are not yet counted
        """
        if self.group is not None:  # the others do not do the steps again
            return "--resume it with one process to have the first such tensor named; "
        done = self.step + more
        told = since(self.trainer, self.dataset, self.run, self.began, done)
        return f"{told}; " if told else ""

    def _kept(self) -> str:
        if self.last is None:
            return "there is no checkpoint before it"
        return f"the last good checkpoint is {self.last}"

    def _until_stopped(self, items: Iterable[Batch]) -> Iterator[Batch]:
        for item in items:
            stop = self.stop.is_set()
            if stop if self.group is None else self.group.any(stop):
                raise _Stop
            yield item
