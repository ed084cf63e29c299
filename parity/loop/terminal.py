"""What a terminal shows of a training: a bar, or a few lines where there is none."""

import os
import sys
from collections import deque
from datetime import timedelta
from typing import Any

from parity.data import Split
from parity.loop.tensorboard import events
from parity.loop.watcher import Line, Watcher, spared
from parity.spec import TrainingSpec

DUMB = ("dumb", "unknown")  # terminals, by TERM


def shows(trainer: Any, test: Split, per_epoch: int, folder: os.PathLike | None) -> list[Watcher]:
    """A bar or plain lines, whichever suits stdout, and TensorBoard with a folder."""
    watchers: list[Watcher] = []
    with spared("progress"):
        watchers += [_progress(Telling(trainer.training, per_epoch))]
    if folder is not None:
        with spared("events for TensorBoard"):
            watchers += events(folder, trainer, test)
    return watchers


def _progress(words: "Telling") -> Watcher:
    # Where TERM is dumb, a line cannot be written over, and a bar would be shown at its end alone.
    if sys.stdout is None or not sys.stdout.isatty() or os.environ.get("TERM") in DUMB:
        return Lines(words)
    return Bar(words)


class Telling:
    """A line of metrics in words; loss, accuracy and speed are recent means."""

    def __init__(self, training: TrainingSpec, per_epoch: int) -> None:
        self.training, self.per_epoch = training, per_epoch
        self.every = max(1, per_epoch // 10)
        self.recent: deque[Line] = deque(maxlen=self.every)
        self.seen = 0

    def add(self, line: Line) -> None:
        """Takes a step into the means; the second one drops the first, which compiled."""
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
        accuracy = line["accuracy"]
        text = (
            f"{self.epoch(line)}  test loss {line['loss']:.4f}  test accuracy {accuracy:.4f}  "
            f"(error {1 - accuracy:.2%})"
        )
        if "validation_accuracy" in line:
            text += f"  validation {line['validation_accuracy']:.4f}"
        if "ema_accuracy" in line:
            averaged = line["ema_accuracy"]
            text += f"  averaged weights {averaged:.4f} ({1 - averaged:.2%})"
            if "ema_validation_accuracy" in line:
                text += f"  validation {line['ema_validation_accuracy']:.4f}"
        return text


class Lines:
    """Plain lines, ten an epoch and one for each evaluation, for files and pipes."""

    name = "progress"

    def __init__(self, words: Telling) -> None:
        self.words = words

    def train(self, line: Line) -> None:
        """Takes a step into the means; prints a line ten times an epoch."""
        self.words.add(line)
        cursor = self.words.cursor(line)
        if cursor % self.words.every == 0:
            where = f"{self.words.epoch(line)}  step {cursor}/{self.words.per_epoch}"
            print(f"{where}  {self.words.step(line)}", flush=True)

    def eval(self, line: Line) -> None:
        """Prints a line."""
        print(self.words.tested(line), flush=True)

    def close(self) -> None:
        """Does nothing: every line was written as it came."""


class Bar:
    """A bar for the present epoch, and a line above it for each evaluation."""

    name = "progress"

    def __init__(self, words: Telling) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.words = words
        columns = TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn()
        self.bar = Progress(*columns, TextColumn("{task.fields[words]}"))
        self.task = self.bar.add_task("first step", total=words.per_epoch, words="")
        self.bar.start()

    def train(self, line: Line) -> None:
        """Takes a step into the means and moves the bar."""
        self.words.add(line)
        epoch, cursor = self.words.epoch(line), self.words.cursor(line)
        words = self.words.step(line) if cursor < self.words.per_epoch else "testing"
        self.bar.update(self.task, description=epoch, completed=cursor, words=words)

    def eval(self, line: Line) -> None:
        """Prints a line above the bar."""
        self.bar.console.print(self.words.tested(line), highlight=False)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self.bar.stop()
