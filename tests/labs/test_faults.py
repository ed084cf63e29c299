"""The harness of `make faults`: it alters everything, and sees what is lost."""

import dataclasses
import shutil
import sys
import types

import fakes
import pytest
from faults import damage
from faults.process import End, difference
from pages import fill, table

from parity import loop
from parity.loop import tensorboard
from parity.runs import Run, checkpoints
from parity.runs.disk import RunError, RunWarning


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    path = tmp_path_factory.mktemp("begun") / "run"
    with Run.create(path, fakes.SPEC, fakes.TRAINING) as run:
        loop.train(fakes.Trainer(), fakes.dataset(), run, progress=False)
        run.append({"event": "train", "epoch": 4, "step": 16})
    return path


def test_whatever_is_altered_is_found_and_named(begun, tmp_path):
    rows = damage.altered("none", tmp_path, begun, seed=1, flips=5)
    assert [loss for row in rows for loss in row.losses] == []
    assert sum(row.tried for row in rows) > 90
    assert all(row.tried == row.detected for row in rows)


def test_what_goes_unseen_is_lost(begun, tmp_path, monkeypatch):
    """Without the checksums of a checkpoint's files."""
    monkeypatch.setattr(checkpoints, "sha256_of", lambda path: "0")
    state = checkpoints.read_state

    def trusting(path):
        return dataclasses.replace(state(path), weights_sha256="0", optimizer_sha256="0")

    monkeypatch.setattr(checkpoints, "read_state", trusting)
    monkeypatch.setattr("parity.weights.files.verify", lambda *_: None)
    rows = damage.altered("none", tmp_path, begun, seed=1, flips=1)
    lost = [loss for row in rows for loss in row.losses]
    assert any("weights.safetensors" in each for each in lost)
    assert any("optimizer.safetensors" in each for each in lost)


def test_an_end_elsewhere_is_told_in_words():
    whole = End({"step-1": (b"w", b"o", "s")}, [{"step": 1}], [])
    assert difference(whole, whole) == ""
    for other, says in (
        (End({}, whole.metrics, []), "has checkpoints"),
        (End({"step-1": (b"x", b"o", "s")}, whole.metrics, []), "another weights"),
        (End({"step-1": (b"w", b"x", "s")}, whole.metrics, []), "another optimizer"),
        (End(whole.kept, [], []), "other metrics"),
        (End(whole.kept, whole.metrics, [".new-step-1"]), "left"),
    ):
        assert says in difference(other, whole)


def test_deleted_checkpoints_are_missed(begun, tmp_path):
    path = shutil.copytree(begun, tmp_path / "run")
    *others, newest = checkpoints.listed(path / "checkpoints")
    shutil.rmtree(newest)
    with Run.open(path) as run:
        with pytest.warns(RunWarning, match="records 3 whole epochs; it was deleted"):
            found = run.newest()
        assert found is not None
        assert found.path == others[-1]
        for each in others:
            shutil.rmtree(each)
        with pytest.raises(RunError, match=r"holds no checkpoint, though .* records 3"):
            run.newest()


def test_a_page_keeps_what_is_around_a_table(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- it -->\nold\n<!-- end it -->\nafter\n")
    fill(page, "it", table(["a", "b"], [[1, 2]]))
    expected = "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    assert page.read_text() == f"before\n<!-- it -->\n{expected}<!-- end it -->\nafter\n"
    with pytest.raises(ValueError, match="expected one <!-- other -->"):
        fill(page, "other", "")


def full_disk(*_):
    raise OSError(28, "No space left on device")


def test_training_goes_on_without_events_where_the_disk_is_full(tmp_path, monkeypatch, capsys):
    """tensorboardX's thread would die of it, and training wait for that thread without end."""
    pytest.importorskip("tensorboardX")
    opened = open

    def small(path, mode="r", *rest, **more):
        file = opened(path, mode, *rest, **more)
        if "tfevents" in str(path):
            file.close()
            return types.SimpleNamespace(write=full_disk, flush=full_disk, close=full_disk)
        return file

    monkeypatch.setattr(tensorboard, "open", small, raising=False)
    with Run.create(tmp_path / "run", fakes.SPEC, fakes.TRAINING) as run:
        history = loop.train(fakes.Trainer(), fakes.dataset(), run)
    assert history.lines[-1]["step"] == 15
    said = capsys.readouterr().err
    assert said.count("no more events for TensorBoard (No space left on device)") == 1


def test_events_need_tensorboardx(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert tensorboard.writer() is None
