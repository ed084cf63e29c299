"""A training is worth more than what is shown of it, kept for the next one, or drawn at its end."""

import multiprocessing
import os
import sys

import fakes
import numpy as np
import pytest

from parity import loop
from parity.loop import session, terminal
from parity.runs import Run
from parity.runs.disk import RunWarning
from parity.wing import cache


def test_there_is_no_cache_where_there_is_no_home(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert cache.folder() is None


class Failing:
    """A watcher that fails when its time has come."""

    name = "pictures on the wall"

    def __init__(self, when: str, heard: list) -> None:
        self.when, self.heard = when, heard

    def _hear(self, event: str) -> None:
        self.heard.append(event)
        if event == self.when:
            raise ValueError("it fell")

    def train(self, line) -> None:
        self._hear("train")

    def eval(self, line) -> None:
        self._hear("eval")

    def close(self) -> None:
        self._hear("close")


@pytest.mark.parametrize(("when", "heard"), [("train", 1), ("eval", 6), ("close", 19)])
def test_a_watcher_that_fails_is_told_of_once_and_dropped(monkeypatch, when, heard):
    failing, whole = Failing(when, []), Failing("never", [])
    monkeypatch.setattr(session, "shows", lambda *_: [failing, whole])
    with pytest.warns(RunWarning) as told:
        history = loop.train(fakes.Trainer(), fakes.dataset())
    assert [str(each.message) for each in told] == [
        "no more pictures on the wall (it fell); training goes on without"
    ]
    assert history.lines[-1]["step"] == 15
    assert (len(failing.heard), len(whole.heard)) == (heard, 19)


def test_an_interruption_of_a_watcher_is_one_of_the_training(monkeypatch):
    class Impatient(Failing):
        def train(self, line) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(session, "shows", lambda *_: [Impatient("never", [])])
    with pytest.raises(KeyboardInterrupt):
        loop.train(fakes.Trainer(), fakes.dataset())


def broken(*_: object, **__: object) -> None:
    raise OSError(2, "No such file or directory")


@pytest.mark.parametrize(
    ("what", "name", "says"),
    [
        ("Lines", "progress", "no more progress (No such file or directory)"),
        ("events", "events", "no more events for TensorBoard (No such file or directory)"),
    ],
)
def test_what_cannot_even_begin_to_be_shown_ends_no_training(
    tmp_path, monkeypatch, what, name, says
):
    monkeypatch.setattr(terminal, what, broken)
    with (
        Run.create(tmp_path / "run", fakes.SPEC, fakes.TRAINING) as run,
        pytest.warns(RunWarning) as told,
    ):
        history = loop.train(fakes.Trainer(), fakes.dataset(), run)
    assert [str(each.message) for each in told] == [f"{says}; training goes on without"]
    assert np.isfinite(history.lines[-1]["loss"])


def test_events_without_semaphores_end_no_training(tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX")
    monkeypatch.setattr(multiprocessing, "Queue", broken)
    with (
        Run.create(tmp_path / "run", fakes.SPEC, fakes.TRAINING) as run,
        pytest.warns(RunWarning, match="no more events for TensorBoard") as told,
    ):
        loop.train(fakes.Trainer(), fakes.dataset(), run)
    assert len(told) == 1


@pytest.mark.parametrize("terminal_type", ["dumb", "unknown"])
def test_a_terminal_that_cannot_write_over_a_line_gets_lines(monkeypatch, capsys, terminal_type):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", terminal_type)
    loop.train(fakes.Trainer(), fakes.dataset())
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.count("step 5/5") == 3
