"""The training loop: what it measures, writes and saves, and how it stops and goes on."""

import dataclasses
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace

import fakes
import numpy as np
import pytest

from parity import loop
from parity.data import DataError, batches
from parity.loop import scoring, session, terminal
from parity.loop.prefetch import Prefetch
from parity.runs import Run
from parity.runs.disk import RunError, RunWarning
from parity.schedule import learning_rate
from parity.spec import RunOptions

STEPS, PER_EPOCH = 15, 5
KEYS = ["event", "epoch", "step", "loss", "accuracy", "learning_rate", "images_per_second"]


def created(path, **options) -> Run:
    return Run.create(path, fakes.SPEC, fakes.TRAINING, RunOptions(**options))


def train(trainer, run=None, **changes):
    return loop.train(trainer, fakes.dataset(), run, progress=False, **changes)


def timeless(lines: list) -> list:
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]


def same(a: fakes.Trainer, b: fakes.Trainer) -> None:
    for group in ("weights", "optimizer"):
        ours, theirs = a.get_state()[group], b.get_state()[group]
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name], strict=True)
    assert a.steps == b.steps


@pytest.fixture(scope="module")
def whole():
    """A trainer and history of training that nothing interrupts."""
    trainer = fakes.Trainer()
    return trainer, train(trainer)


def test_there_is_a_line_for_each_step_and_each_evaluation(whole, tmp_path):
    lines = whole[1].lines
    assert all(list(line) == KEYS for line in lines)
    expected = [
        (event, epoch, step)
        for epoch in (1, 2, 3)
        for event, step in [
            *(("train", (epoch - 1) * PER_EPOCH + n) for n in range(1, PER_EPOCH + 1)),
            ("eval", epoch * PER_EPOCH),
        ]
    ]
    assert [(line["event"], line["epoch"], line["step"]) for line in lines] == expected
    for line in lines:
        assert line["learning_rate"] == learning_rate(fakes.TRAINING, line["step"] - 1)
        assert line["images_per_second"] > 0
    with created(tmp_path / "run") as run:
        written = train(fakes.Trainer(), run)
        assert run.metrics() == written.lines
    assert timeless(written.lines) == timeless(lines)


def test_it_learns_and_says_how_well(whole):
    trainer, history = whole
    evals = [line for line in history.lines if line["event"] == "eval"]
    assert history.accuracy == evals[-1]["accuracy"] == 1.0
    assert history.best == max(line["accuracy"] for line in evals)
    assert evals[-1]["loss"] < evals[0]["loss"]
    assert 0 <= history.waiting < 1
    found = scoring.evaluate(trainer, fakes.dataset().test, 4)
    assert found == {"loss": evals[-1]["loss"], "accuracy": 1.0, "count": 7}


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 7, 11])
def test_an_evaluation_is_exact_for_every_batch_size(batch_size):
    trainer, test = fakes.Trainer(), fakes.dataset().test
    _, p = trainer._probabilities(test.images)
    found = scoring.evaluate(trainer, test, batch_size)
    assert found["count"] == len(test) == 7
    assert found["accuracy"] == (p.argmax(1) == test.labels).mean()
    loss = -np.log(p[np.arange(7), test.labels]).mean()
    assert found["loss"] == pytest.approx(float(loss), rel=1e-6)


def test_without_a_run_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(fakes.Trainer())
    assert list(tmp_path.iterdir()) == []


def test_a_data_set_that_does_not_fit_is_refused_before_anything_is_done(tmp_path):
    other = dataclasses.replace(fakes.SPEC, image=(7, 5, 1))
    with pytest.raises(RunError, match=r"images of \(5, 7, 1\) in 3 classes"):
        train(fakes.Trainer(other))
    large = dataclasses.replace(fakes.TRAINING, batch_size=29)
    with pytest.raises(DataError, match="29 is larger than the 23"):
        train(fakes.Trainer(training=large))
    with created(tmp_path / "run") as run:
        with pytest.raises(RunError, match="another network or training"):
            train(fakes.Trainer(training=dataclasses.replace(fakes.TRAINING, seed=3)), run)
        used = fakes.Trainer()
        train(used)
        with pytest.raises(RunError, match="15 steps before"):
            train(used, run)
        assert run.metrics() == []


def test_checkpoints_are_written_at_the_ends_of_epochs_and_as_often_as_asked(tmp_path, monkeypatch):
    saved = []
    with created(tmp_path / "run", checkpoint_every=2) as run:
        save = run.save

        def note(state, **where):
            saved.append((state["step"], where["epoch"], where["cursor"]))
            return save(state, **where)

        monkeypatch.setattr(run, "save", note)
        train(fakes.Trainer(), run)
    assert saved == [
        (2, 0, 2), (4, 0, 4), (5, 1, 0),
        (6, 1, 1), (8, 1, 3), (10, 2, 0),
        (12, 2, 2), (14, 2, 4), (15, 3, 0),
    ]  # fmt: skip


def interrupt(number=signal.SIGINT):
    return lambda _: os.kill(os.getpid(), number)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_an_interrupted_run_ends_where_the_uninterrupted_one_does(whole, tmp_path, step):
    first = fakes.Trainer()
    first.at[step] = interrupt([signal.SIGINT, signal.SIGTERM][step % 2])
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with created(tmp_path / "run") as run, pytest.raises(loop.Stopped) as told:
        train(first, run)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert first.steps == step
    assert f"after step {step} of epoch" in str(told.value)
    assert f"python -m parity train --resume {run.path}" in str(told.value)
    with Run.open(run.path) as run:
        found = run.newest()
        assert found is not None
        assert found.state.step == len([x for x in run.metrics() if x["event"] == "train"]) == step
        second = fakes.Trainer()
        history = train(second, run)
        assert timeless(run.metrics()) == timeless(whole[1].lines)
    same(second, whole[0])
    assert (history.accuracy, history.best) == (whole[1].accuracy, whole[1].best)


def test_an_interrupted_evaluation_is_done_again(whole, tmp_path):
    first = fakes.Trainer()
    evaluate = first.evaluate

    def stop(*batch):
        interrupt()(first)
        return evaluate(*batch)

    first.at[PER_EPOCH] = lambda trainer: setattr(trainer, "evaluate", stop)
    with created(tmp_path / "run") as run, pytest.raises(loop.Stopped):
        train(first, run)
    with Run.open(run.path) as run:
        found = run.newest()
        assert found is not None
        assert (found.state.epoch, found.state.cursor) == (0, PER_EPOCH)
        second = fakes.Trainer()
        train(second, run)
        assert timeless(run.metrics()) == timeless(whole[1].lines)
    same(second, whole[0])


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_a_signal_that_announces_an_end_saves_and_never_interrupts_that(tmp_path, name):
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)  # nohup, say, has it ignored
    try:
        announced(tmp_path, number)
    finally:
        signal.signal(number, before)


def announced(tmp_path, number):
    trainer = fakes.Trainer()
    trainer.at[7] = lambda _: [os.kill(os.getpid(), each) for each in (number, number, 15)]
    with created(tmp_path / "run") as run:
        with pytest.raises(loop.Stopped, match="after step 7 of epoch 2"):
            train(trainer, run)
        found = run.newest()
    assert signal.getsignal(number) == signal.SIG_DFL
    assert found is not None
    assert found.state.step == 7


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_a_signal_that_the_user_ignores_or_takes_stays_his(tmp_path, name):
    number, taken = getattr(signal, name), []
    for handler, seen in ((signal.SIG_IGN, 0), (lambda *_: taken.append(name), 1)):
        trainer = fakes.Trainer()
        trainer.at[7] = interrupt(number)
        before = signal.signal(number, handler)
        try:
            assert train(trainer).lines[-1]["step"] == STEPS
            assert signal.getsignal(number) == handler
        finally:
            signal.signal(number, before)
        assert len(taken) == seen


def test_a_step_is_timed_without_what_is_saved_shown_and_evaluated(tmp_path, monkeypatch):
    now = [1000.0]

    def lasting(seconds, function):
        def work(*args, **more):
            now[0] += seconds
            return function(*args, **more)

        return work

    monkeypatch.setattr(session, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    trainer = fakes.Trainer()
    trainer.step, trainer.evaluate = lasting(2, trainer.step), lasting(7, trainer.evaluate)
    with created(tmp_path / "run", checkpoint_every=2) as run:
        monkeypatch.setattr(run, "save", lasting(100, run.save))
        monkeypatch.setattr(run, "append", lasting(1000, run.append))
        history = train(trainer, run)
    steps = [line for line in history.lines if line["event"] == "train"]
    assert [line["images_per_second"] for line in steps] == [fakes.TRAINING.batch_size / 2] * STEPS
    assert history.seconds == 2 * STEPS


def test_a_second_interruption_does_not_wait_and_without_a_run_nothing_is_promised():
    trainer = fakes.Trainer()
    trainer.at[3] = lambda _: (interrupt()(_), interrupt()(_))
    with pytest.raises(KeyboardInterrupt) as told:
        train(trainer)
    assert not isinstance(told.value, loop.Stopped)
    trainer = fakes.Trainer()
    trainer.at[3] = interrupt()
    with pytest.raises(loop.Stopped, match="nothing was saved"):
        train(trainer)


def test_training_works_in_a_thread_which_may_not_take_signals(whole):
    trainer = fakes.Trainer()
    thread = threading.Thread(target=train, args=(trainer,))
    thread.start()
    thread.join()
    same(trainer, whole[0])


def test_a_run_goes_on_from_what_a_killed_process_left(whole, tmp_path):
    class Killed(BaseException):
        pass

    def kill(_):
        raise Killed

    first = fakes.Trainer()
    first.at[9] = kill
    with created(tmp_path / "run", checkpoint_every=2) as run, pytest.raises(Killed):
        train(first, run)
    with Run.open(run.path) as run:
        assert [x["step"] for x in run.metrics()][-1] == 8
        second = fakes.Trainer()
        assert train(second, run).lines[0]["step"] == 9
        assert timeless(run.metrics()) == timeless(whole[1].lines)
    same(second, whole[0])


def test_a_finished_run_has_nothing_left_and_more_epochs_go_on(whole, tmp_path):
    with created(tmp_path / "run") as run:
        train(fakes.Trainer(), run)
        history = train(fakes.Trainer(), run)
        assert (history.lines, history.accuracy) == ([], 1.0)
        longer = dataclasses.replace(fakes.TRAINING, epochs=4)
        run.change(longer, run.options)
        trainer = fakes.Trainer(training=longer)
        assert [x["step"] for x in train(trainer, run).lines] == [16, 17, 18, 19, 20, 20]
    uninterrupted = fakes.Trainer(training=longer)
    train(uninterrupted)
    same(trainer, uninterrupted)


def test_other_data_than_the_run_began_with_is_refused(tmp_path):
    with created(tmp_path / "run") as run:
        train(fakes.Trainer(), run)
        with pytest.raises(RunError, match="23 training images then, 31 now"):
            loop.train(fakes.Trainer(), fakes.dataset(train=31), run, progress=False)


def spoil(name: str, group: str = "arrays"):
    def now(trainer):
        getattr(trainer, group)[name].flat[1] = np.inf

    return now


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize(
    ("step", "what", "says"),
    [
        (9, spoil("decoder.0.kernel"), "the loss is nan at step 9 of epoch 2"),
        (10, spoil("stem.0.bias"), r"stem\.0\.bias is not finite at step 10"),
        (10, spoil("sgd.momentum/digit.kernel", "slots"), r"digit\.kernel is not finite"),
    ],
)
def test_a_number_that_is_none_stops_training_and_is_never_saved(tmp_path, step, what, says):
    trainer = fakes.Trainer()
    trainer.at[step] = what
    with created(tmp_path / "run") as run:
        with pytest.raises(RunError, match=says) as told:
            train(trainer, run)
        good = run.path / "checkpoints" / "step-00000005"
        assert f"the last good checkpoint is {good}" in str(told.value)
        found = run.newest()
        assert found is not None
        assert found.path == good
        assert "nan" not in (run.path / "metrics.jsonl").read_text().lower()


def test_a_test_loss_that_is_no_number_stops_training(tmp_path, monkeypatch):
    trainer = fakes.Trainer()
    spoilt = {"loss": float("nan"), "correct": 1.0, "count": 2.0}
    monkeypatch.setattr(trainer, "evaluate", lambda *_: spoilt)
    with created(tmp_path / "run") as run:
        with pytest.raises(RunError, match=r"test loss is nan .* there is no checkpoint before it"):
            train(trainer, run)
        assert run.newest() is None


def test_prefetching_keeps_the_order_and_makes_one_ahead():
    made = []

    def source() -> Iterator[int]:
        for number in range(7):
            made.append(number)
            yield number

    prefetch, used = Prefetch(source()), []
    for number in prefetch:
        used.append(number)
        assert len(made) <= len(used) + 1
    assert used == list(range(7))
    assert prefetch.waited > 0
    assert not [each for each in threading.enumerate() if each.name.startswith("prefetch")]


def test_prefetching_raises_what_its_source_does_and_ends_early_when_closed():
    def source() -> Iterator[int]:
        yield 3
        raise DataError("spoilt")

    used = []
    with pytest.raises(DataError, match="spoilt"):
        used.extend(Prefetch(source()))
    with closing(iter(Prefetch(iter(range(10**9))))) as items:  # type: ignore[type-var]
        assert next(items) == 0
    assert not [each for each in threading.enumerate() if each.name.startswith("prefetch")]


def test_a_fault_in_the_batches_ends_training(monkeypatch):
    def source(*_):
        raise DataError("spoilt")
        yield

    monkeypatch.setattr(batches, "training", source)
    with pytest.raises(DataError, match="spoilt"):
        train(fakes.Trainer())


def test_plain_lines_are_few(tmp_path, capsys):
    training = dataclasses.replace(fakes.TRAINING, batch_size=2, epochs=2)
    data = fakes.dataset(train=93)  # 46 steps an epoch
    loop.train(fakes.Trainer(training=training), data)
    lines = capsys.readouterr().out.splitlines()
    tested = [line for line in lines if "test accuracy" in line]
    assert len(tested) == 2
    assert tested[1].startswith("epoch 2/2  test loss 0.")
    steps = [line for line in lines if line not in tested]
    assert len(steps) == 2 * 11
    assert steps[10].startswith("epoch 1/2  step 44/46  loss ")
    assert steps[0].endswith("left")
    assert "images/s" in steps[0]


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    loop.train(fakes.Trainer(), fakes.dataset())
    out = capsys.readouterr().out
    assert "epoch 3/3" in out
    assert out.count("test accuracy") == 3
    assert "5/5" in out


def test_the_shown_speed_leaves_out_the_first_step():
    told = terminal.Telling(dataclasses.replace(fakes.TRAINING, epochs=2), 50)
    line = {"epoch": 1, "loss": 1.0, "accuracy": 0.5}
    for step, speed in enumerate([0.001, 400.0, 200.0], 1):
        told.add({**line, "step": step, "images_per_second": speed})
    text = told.step({**line, "step": 3})
    assert "267 images/s" in text
    assert "0:00:01 left" in text  # 97 steps of 4 images at 266.7 a second


def test_tensorboard_events_are_written_where_tensorboardx_is(tmp_path, monkeypatch):
    with created(tmp_path / "with") as run:
        loop.train(fakes.Trainer(), fakes.dataset(), run)
    (events,) = run.path.glob("events*")
    assert b"test/accuracy" in events.read_bytes()
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with created(tmp_path / "without") as run:
        loop.train(fakes.Trainer(), fakes.dataset(), run)
        assert json.dumps(timeless(run.metrics()))
    assert not list(run.path.glob("events*"))


class Kept:
    """A watcher that keeps what it is given, and raises at one line of it."""

    def __init__(self, breaks: int | None = None) -> None:
        self.name, self.breaks, self.seen, self.closed = "plot", breaks, [], 0

    def train(self, line):
        if len(self.seen) == self.breaks:
            raise OSError("no display")
        self.seen.append(line)

    def eval(self, line):
        self.seen.append(line)

    def close(self):
        self.closed += 1


@pytest.mark.parametrize("progress", [False, True])
def test_a_watcher_gets_every_line_and_the_end(progress, capsys):
    kept = Kept()
    history = loop.train(fakes.Trainer(), fakes.dataset(), progress=progress, watchers=[kept])
    assert kept.seen == history.lines
    assert kept.closed == 1
    assert ("test accuracy" in capsys.readouterr().out) is progress
    events = [line["event"] for line in history.lines]
    assert repr(history).startswith(
        f"History({events.count('train')} steps, 3 evaluations, accuracy {history.accuracy:.4f}, "
    )


def test_a_watcher_that_fails_is_dropped_and_the_others_stay():
    broken, kept = Kept(breaks=2), Kept()
    with pytest.warns(RunWarning, match=r"no more plot \(no display\); training goes on without"):
        history = loop.train(
            fakes.Trainer(), fakes.dataset(), progress=False, watchers=(broken, kept)
        )
    assert broken.seen == history.lines[:2]
    assert (broken.closed, kept.closed) == (0, 1)
    assert kept.seen == history.lines


def test_a_watcher_is_closed_after_an_error():
    trainer, kept = fakes.Trainer(), Kept()
    trainer.at[3] = lambda _: 1 / 0
    with pytest.raises(ZeroDivisionError):
        loop.train(trainer, fakes.dataset(), progress=False, watchers=[kept])
    assert (len(kept.seen), kept.closed) == (2, 1)
