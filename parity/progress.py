"""What a run shows while it trains: a bar in a terminal, a few lines elsewhere, TensorBoard."""

import importlib.util
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol

import numpy as np

from parity.data import Split
from parity.events import writer
from parity.figures.glimpse import Glimpse, glimpse
from parity.figures.model import Model
from parity.spec import TrainingSpec

Line = dict[str, Any]  # one of metrics.jsonl


class Watcher(Protocol):
    """Is told each line of metrics as it is measured, and when there are no more."""

    def train(self, line: Line) -> None: ...
    def eval(self, line: Line) -> None: ...
    def close(self) -> None: ...


def watchers(
    trainer: Any, test: Split, per_epoch: int, folder: os.PathLike | None
) -> list[Watcher]:
    """A bar or plain lines, whichever suits stdout, and TensorBoard where there is a folder."""
    told = Telling(trainer.training, per_epoch)
    shown = Bar(told) if sys.stdout.isatty() else Lines(told)
    return [shown, *([] if folder is None else events(folder, trainer, test))]


class Telling:
    """The words of a line of metrics; loss, accuracy and speed are means over recent steps."""

    def __init__(self, training: TrainingSpec, per_epoch: int) -> None:
        self.training, self.per_epoch = training, per_epoch
        self.every = max(1, per_epoch // 10)
        self.recent: deque[Line] = deque(maxlen=self.every)
        self.seen = 0

    def add(self, line: Line) -> None:
        """Take a training step into the means; the first one compiled, so the second drops it."""
        if self.seen == 1:
            self.recent.clear()
        self.seen += 1
        self.recent.append(line)

    def epoch(self, line: Line) -> str:
        """Which epoch of how many."""
        return f"epoch {line['epoch']}/{self.training.epochs}"

    def cursor(self, line: Line) -> int:
        """Steps done in this epoch."""
        return line["step"] - (line["epoch"] - 1) * self.per_epoch

    def step(self, line: Line) -> str:
        """Loss, accuracy, speed and time left."""
        count = len(self.recent)
        loss, accuracy = (sum(x[k] for x in self.recent) / count for k in ("loss", "accuracy"))
        rate = count / sum(1 / x["images_per_second"] for x in self.recent)
        steps = self.training.epochs * self.per_epoch - line["step"]
        left = timedelta(seconds=round(steps * self.training.batch_size / rate))
        return f"loss {loss:.4f}  accuracy {accuracy:.4f}  {rate:.0f} images/s  {left} left"

    def tested(self, line: Line) -> str:
        """What an evaluation found."""
        accuracy, averaged = line["accuracy"], line.get("ema_accuracy")
        text = (
            f"{self.epoch(line)}  test loss {line['loss']:.4f}  test accuracy {accuracy:.4f}  "
            f"(error {1 - accuracy:.2%})"
        )
        if averaged is None:
            return text
        return f"{text}  averaged weights {averaged:.4f} ({1 - averaged:.2%})"


class Lines:
    """Plain lines, ten an epoch and one for each evaluation, for files and pipes."""

    def __init__(self, told: Telling) -> None:
        self.told = told

    def train(self, line: Line) -> None:
        self.told.add(line)
        cursor = self.told.cursor(line)
        if cursor % self.told.every == 0:
            where = f"{self.told.epoch(line)}  step {cursor}/{self.told.per_epoch}"
            print(f"{where}  {self.told.step(line)}", flush=True)

    def eval(self, line: Line) -> None:
        print(self.told.tested(line), flush=True)

    def close(self) -> None:
        pass


class Bar:
    """A bar for the present epoch, and a line above it for each evaluation."""

    def __init__(self, told: Telling) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.told = told
        columns = TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn()
        self.bar = Progress(*columns, TextColumn("{task.fields[told]}"))
        self.task = self.bar.add_task("first step", total=told.per_epoch, told="")
        self.bar.start()

    def train(self, line: Line) -> None:
        self.told.add(line)
        epoch, cursor = self.told.epoch(line), self.told.cursor(line)
        told = self.told.step(line) if cursor < self.told.per_epoch else "testing"
        self.bar.update(self.task, description=epoch, completed=cursor, told=told)

    def eval(self, line: Line) -> None:
        self.bar.console.print(self.told.tested(line), highlight=False)

    def close(self) -> None:
        self.bar.stop()


class Events:
    """TensorBoard scalars, through tensorboardX, and what `look` sees after each evaluation."""

    def __init__(
        self,
        opener: Callable[..., Any],
        folder: os.PathLike,
        look: Callable[[], Glimpse] | None = None,
    ) -> None:
        self.open, self.writer, self.folder, self.look = opener, None, folder, look

    def train(self, line: Line) -> None:
        self._add("train", line)

    def eval(self, line: Line) -> None:
        writer = self._add("test", line)
        if self.look is not None:
            seen = self.look()
            writer.add_histogram("routing/entropy", seen.entropies, line["step"])
            for name, picture in seen.pictures.items():
                writer.add_image(name, picture, line["step"], dataformats="HWC")

    def _add(self, group: str, line: Line) -> Any:
        if self.writer is None:  # what an earlier process wrote from this step on is void
            self.writer = self.open(self.folder, purge_step=line["step"])
        for name, value in line.items():
            if name not in ("event", "epoch", "step"):
                self.writer.add_scalar(f"{group}/{name}", value, line["step"])
        return self.writer

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def events(folder: os.PathLike, trainer: Any, test: Split) -> list[Watcher]:
    """The writer of TensorBoard events, or none where tensorboardX is not installed.

    A wing's Trainer is looked at too; its pictures need Pillow.
    """
    opener, batch_size = writer(), trainer.training.batch_size
    if opener is None:
        return []
    if not isinstance(trainer, Model) or importlib.util.find_spec("PIL") is None:
        return [Events(opener, folder)]
    return [Events(opener, folder, glimpse(trainer, test, batch_size))]


def show(folder: os.PathLike, step: int, pictures: Mapping[str, np.ndarray]) -> None:
    """Add pictures [H, W, C], by name, to the events of a run that has ended."""
    if (opener := writer()) is not None:
        with opener(folder, filename_suffix=".figures") as opened:
            for name, picture in pictures.items():
                opened.add_image(f"figures/{name}", picture, step, dataformats="HWC")
