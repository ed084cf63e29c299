"""TensorBoard's event files, through tensorboardX, on disks that may be full.

tensorboardX writes them in a thread, which dies of the first error; whoever trains would then
wait for it without end. A file that cannot be written any more is given up, with one warning.
"""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from parity.data import Split
from parity.figures.glimpse import Glimpse, glimpse
from parity.figures.model import Model
from parity.loop.watcher import Line, Watcher

PREFIX = "twincaps-events"  # of paths, by which tensorboardX knows whose files they are


class Sink:
    """A file of events as long as the disk takes them, then nothing."""

    def __init__(self, path: str) -> None:
        self.path, self.file = path, None
        try:
            self.file = open(path, "wb")  # noqa: SIM115 (tensorboardX closes it)
        except OSError as error:
            self._give_up(error)

    def write(self, content: bytes) -> None:
        """Writes these bytes, as long as that goes well."""
        self._try("write", content)

    def flush(self) -> None:
        """Hands what was written on to the system."""
        self._try("flush")

    def close(self) -> None:
        """Ends the file."""
        self._try("close")

    def _try(self, what: str, *content: bytes) -> None:
        if self.file is not None:
            try:
                getattr(self.file, what)(*content)
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        file, self.file = self.file, None
        if file is not None:
            with contextlib.suppress(OSError):  # what it still holds cannot be written either
                file.close()
        fault = f"{self.path}: no more events for TensorBoard ({error.strerror or error})"
        print(f"warning: {fault}; training goes on without", file=sys.stderr, flush=True)


class _Sinks:
    """What tensorboardX asks of a kind of file."""

    def directory_check(self, path: str) -> None:
        """The folder of a run is there."""

    def open(self, path: str) -> Sink:
        """The Sink of a path with our prefix."""
        return Sink(path.removeprefix(f"{PREFIX}:"))


def writer() -> Callable[..., Any] | None:
    """A function that opens a SummaryWriter of tensorboardX for a run folder.

    It takes the folder and the writer's options. None where tensorboardX is not installed, or
    cannot be loaded.
    """
    # tensorboardX imports torch wherever that is installed; a run of the JAX wing must not.
    hide = "torch" not in sys.modules
    if hide:
        sys.modules["torch"] = None  # pyright: ignore[reportArgumentType]
    try:
        from tensorboardX import SummaryWriter
        from tensorboardX.record_writer import register_writer_factory
    except ImportError:
        return None
    finally:
        if hide:
            del sys.modules["torch"]
    register_writer_factory(PREFIX, _Sinks())
    return lambda folder, **options: SummaryWriter(f"{PREFIX}:{folder}", **options)


class Events:
    """TensorBoard scalars, and after each evaluation what `look` returns."""

    name = "events for TensorBoard"

    def __init__(
        self,
        opener: Callable[..., Any],
        folder: os.PathLike,
        look: Callable[[], Glimpse] | None = None,
    ) -> None:
        self.open, self.writer, self.folder, self.look = opener, None, folder, look

    def train(self, line: Line) -> None:
        """Adds the numbers of a step."""
        self._add("train", line)

    def eval(self, line: Line) -> None:
        """Adds the numbers of an evaluation, and what a look at the network finds."""
        writer = self._add("test", line)
        if self.look is not None:
            look = self.look()
            if look.entropies is not None:
                writer.add_histogram("routing/entropy", look.entropies, line["step"])
            for name, picture in look.pictures.items():
                writer.add_image(name, picture, line["step"], dataformats="HWC")

    def _add(self, group: str, line: Line) -> Any:
        if self.writer is None:  # what an earlier process wrote from this step on is void
            self.writer = self.open(self.folder, purge_step=line["step"])
        for name, value in line.items():
            if name not in ("event", "epoch", "step"):
                self.writer.add_scalar(f"{group}/{name}", value, line["step"])
        return self.writer

    def close(self) -> None:
        """Ends the file of events, if one was begun."""
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
    """Adds pictures [H, W, C], by name, to the events of a run that has ended."""
    if (opener := writer()) is not None:
        with opener(folder, filename_suffix=".figures") as summary:
            for name, picture in pictures.items():
                summary.add_image(f"figures/{name}", picture, step, dataformats="HWC")
