"""The run folder: what it holds, what it refuses, and that nothing torn or altered passes."""

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fakes
import numpy as np
import pytest
from wings import ROOT

from parity import loop
from parity.runs import Run, checkpoints, disk, refuse_occupied
from parity.runs.disk import RunError, RunWarning
from parity.saved import find
from parity.spec import RunOptions

OPTIONS = RunOptions(backend="jax", checkpoint_every=2, data_dir="somewhere", block=5)


def random_state(step: int) -> dict:
    random = np.random.default_rng(step)
    state = fakes.Trainer().get_state()
    arrays = {
        group: {
            name: random.standard_normal(array.shape).astype(array.dtype)
            for name, array in state[group].items()
        }
        for group in ("weights", "optimizer")
    }
    return {"step": step, **arrays}


def newest_step(run: Run) -> int | None:
    found = run.newest()
    return None if found is None else found.state.step


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def run(tmp_path):
    with Run.create(tmp_path / "run", fakes.SPEC, fakes.TRAINING, OPTIONS, "tiny") as made:
        yield made


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of 15 steps in 3 epochs, and its files."""
    path = tmp_path_factory.mktemp("finished") / "run"
    with Run.create(path, fakes.SPEC, fakes.TRAINING) as made:
        loop.train(fakes.Trainer(), fakes.dataset(), made, progress=False)
    return path


@pytest.fixture
def copied(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "copied"))


def test_a_run_is_read_back_as_it_was_made(run):
    run.close()
    with Run.open(run.path) as read:
        told = read.spec, read.training, read.options, read.preset
        assert told == (fakes.SPEC, fakes.TRAINING, OPTIONS, "tiny")
        changed = dataclasses.replace(fakes.TRAINING, epochs=7), RunOptions(device="cuda")
        read.change(*changed)
    with Run.open(run.path) as read:
        assert (read.training, read.options) == changed


def test_a_finished_run_has_the_files_of_the_design(finished):
    inside = {"weights.safetensors", "optimizer.safetensors", "state.json"}
    steps = ("step-00000005", "step-00000010", "step-00000015")
    assert {each.name for each in finished.iterdir()} == {
        "spec.json", "training.json", "metrics.jsonl", "checkpoints", "figures", ".lock",
    }  # fmt: skip
    assert {path.name for path in (finished / "checkpoints").iterdir()} == set(steps)
    for step in steps:
        assert {each.name for each in (finished / "checkpoints" / step).iterdir()} == inside
    assert [each.name for each in finished.parent.iterdir()] == ["run"]


@pytest.mark.parametrize("occupant", ["a run", "a damaged run", "a folder", "a file"])
def test_an_occupied_place_is_refused_and_left_alone(tmp_path, occupant):
    path = tmp_path / "place"
    if occupant == "a file":
        path.write_text("mine")
    elif occupant == "a folder":
        path.mkdir()
        (path / "mine").write_text("mine")
    else:
        Run.create(path, fakes.SPEC, fakes.TRAINING).close()
        if occupant == "a damaged run":
            (path / "spec.json").unlink()
    before = content(tmp_path)
    with pytest.raises(RunError, match="run" if "run" in occupant else "is not a run"):
        Run.create(path, fakes.SPEC, fakes.TRAINING)
    with pytest.raises(RunError):
        refuse_occupied(path)
    assert content(tmp_path) == before


def test_an_empty_folder_and_a_new_parent_are_fine(tmp_path):
    (tmp_path / "empty").mkdir()
    for place in ("empty", "new/parent/run"):
        with Run.create(tmp_path / place, fakes.SPEC, fakes.TRAINING) as run:
            assert run.newest() is None


@pytest.mark.parametrize("place", ["nothing", "folder"])
def test_there_must_be_a_run_to_open(tmp_path, place):
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match="no run here"):
        Run.open(tmp_path / place)
    assert list((tmp_path / "folder").iterdir()) == []


def test_one_process_writes_and_others_read(run):
    with pytest.raises(RunError, match=f"in use by process {os.getpid()} on .+ since 20"):
        Run.open(run.path)
    with Run.open(run.path, read_only=True) as read:
        assert read.newest() is None
    run.close()
    Run.open(run.path).close()


def test_the_kernel_releases_the_lock_of_a_killed_process(run):
    run.close()
    code = (
        "import os, signal, sys\nfrom parity.runs import Run\n"
        f"run = Run.open({str(run.path)!r})\nprint(os.getpid(), flush=True)\nsys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None
        owner = int(holder.stdout.readline())
        with pytest.raises(RunError, match=f"process {owner} "):
            Run.open(run.path)
        holder.kill()
    Run.open(run.path).close()


def test_leftovers_of_killed_processes_are_cleared(run, tmp_path):
    run.save(random_state(3), epoch=0, cursor=3)
    run.save(random_state(4), epoch=0, cursor=4)
    run.close()
    folder = run.path / "checkpoints"
    (run.path / ".training.json.12345.part").write_text("half")
    shutil.copytree(folder / "step-00000003", folder / ".new-step-00000005")
    shutil.copytree(folder / "step-00000003", folder / ".gone-step-00000002")
    shutil.copytree(folder / "step-00000003", folder / ".old-step-00000003")  # it was replaced
    os.rename(folder / "step-00000004", folder / ".old-step-00000004")  # it was not yet
    unfinished = tmp_path / ".run.12345.new"
    unfinished.mkdir()
    (unfinished / ".lock").touch()
    with Run.open(run.path) as read:
        assert {each.name for each in folder.iterdir()} == {"step-00000003", "step-00000004"}
        assert newest_step(read) == 4
    assert not list(run.path.glob(".*.part"))
    shutil.rmtree(run.path)
    Run.create(run.path, fakes.SPEC, fakes.TRAINING).close()
    assert [each.name for each in tmp_path.iterdir()] == ["run"]


def test_a_checkpoint_is_read_back_as_it_was_saved(run):
    state = random_state(7)
    path = run.save(state, epoch=1, cursor=2, accuracy=0.25, best=0.75)
    found = run.newest()
    assert found is not None
    assert (found.path, path.name) == (path, "step-00000007")
    told = found.state
    assert (told.step, told.epoch, told.cursor, told.seed) == (7, 1, 2, fakes.TRAINING.seed)
    assert (told.accuracy, told.best) == (0.25, 0.75)
    assert told.versions["numpy"] == np.__version__
    for group in ("weights", "optimizer"):
        read = found.trainer_state[group]
        assert read.keys() == state[group].keys()
        for name, array in state[group].items():
            np.testing.assert_array_equal(read[name], array, strict=True)


def test_the_last_three_and_the_best_are_kept(run):
    scores = {1: 0.1, 2: 0.6, 3: 0.9, 4: 0.9, 5: None, 6: 0.3, 7: None, 8: 0.5}
    for step, accuracy in scores.items():
        run.save(random_state(step), epoch=0, cursor=step, accuracy=accuracy)
    kept = [path.name for path in checkpoints.listed(run.path / "checkpoints")]
    assert kept == [f"step-{step:08d}" for step in (3, 6, 7, 8)]


def test_a_checkpoint_of_the_same_step_is_replaced(run):
    for number in (1, 2):
        run.save(random_state(5), epoch=number, cursor=0, accuracy=None)
    found = run.newest()
    assert found is not None
    assert found.state.epoch == 2
    assert {each.name for each in found.path.parent.iterdir()} == {"step-00000005"}


def flip(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 0x08
    path.write_bytes(data)


DAMAGES = {
    "first byte flipped": lambda path: flip(path, 0),
    "a byte flipped at a third": lambda path: flip(path, 1 / 3),
    "middle byte flipped": lambda path: flip(path, 0.5),
    "last byte flipped": lambda path: flip(path, 1),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "one byte longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "deleted": lambda path: path.unlink(),
}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"step": 15}, "missing"),
        ({"step": -1}, "step is -1"),
        ({"step": "15"}, "step: got '15'"),
        ({"step": 3}, "renamed"),
    ],
)
def test_a_state_with_wrong_values_is_refused(copied, values, says):
    path = copied / "checkpoints" / "step-00000015"
    whole = disk.read_json(path / "state.json", checkpoints.FORMAT)
    values = values if says == "missing" else {**whole, **values}
    disk.write_json(path / "state.json", checkpoints.FORMAT, values)
    with pytest.raises(RunError, match=says):
        checkpoints.read_state(path)


def test_another_version_and_another_network_are_refused(copied):
    path = copied / "spec.json"
    values = json.loads(path.read_bytes())
    path.write_text(json.dumps({**values, "schema": 2}))
    with pytest.raises(RunError, match="schema version 2"):
        Run.open(copied)
    disk.hold(copied).close()  # the lock was let go
    other = dataclasses.replace(fakes.SPEC, pose=2)
    with pytest.raises(RunError, match="another network"):
        checkpoints.read(copied / "checkpoints" / "step-00000015", other)


def test_a_run_without_any_whole_checkpoint_is_not_overwritten(copied):
    for path in checkpoints.listed(copied / "checkpoints"):
        flip(path / "weights.safetensors", 0.5)
    with Run.open(copied) as run, pytest.raises(RunError, match=r"none .* is whole") as told:
        run.newest()
    assert all(f"step-000000{step}" in str(told.value) for step in ("05", "10", "15"))


def test_metrics_are_cut_back_to_a_checkpoint(copied):
    file = copied / "metrics.jsonl"
    whole = file.read_bytes()
    ten = b"".join(whole.splitlines(keepends=True)[:12])
    file.write_bytes(whole + b'{"event": "train", "epoch": 4, "st')
    shutil.rmtree(copied / "checkpoints" / "step-00000015")
    with Run.open(copied) as run:
        assert [line["step"] for line in run.metrics()] == [
            *(1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 10, 11, 12, 13, 14, 15, 15)
        ]
        run.cut_metrics(run.newest())
        assert file.read_bytes() == ten
        run.append({"event": "train", "step": 11})
        assert file.read_bytes() == ten + b'{"event": "train", "step": 11}\n'
        run.cut_metrics(None)
        assert file.read_bytes() == b""


@pytest.mark.parametrize("damage", [*DAMAGES])
def test_damaged_metrics_are_told_of_and_their_whole_lines_kept(copied, damage):
    file = copied / "metrics.jsonl"
    lines = file.read_bytes().splitlines()
    DAMAGES[damage](file)
    with Run.open(copied) as run:
        found = run.newest()
        if damage == "one byte longer":  # what comes after the checkpoint is cut anyway
            run.cut_metrics(found)
        else:
            with pytest.warns(RunWarning, match=r"metrics\.jsonl: was altered or cut short"):
                run.cut_metrics(found)
        kept = file.read_bytes().splitlines() if damage != "deleted" else []
        assert len(run.metrics()) == len(kept)
        assert len(set(kept) - set(lines)) <= 1  # a flipped digit leaves a line a line
        run.append({"event": "train", "step": 16})
        run.save(random_state(16), epoch=3, cursor=1)
        run.cut_metrics(run.newest())  # no warning: what was kept is what is known now
        assert run.metrics()[-1]["step"] == 16


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["fsync", "rename", "replace", "mkdir"])
def test_a_full_disk_costs_nothing_that_was_saved(run, monkeypatch, where):
    run.save(random_state(1), epoch=0, cursor=1)
    before = content(run.path)
    with monkeypatch.context() as patched:
        patched.setattr(os, where, full_disk)
        with pytest.raises(RunError, match="No space left on device"):
            run.save(random_state(2), epoch=0, cursor=2)
        with pytest.raises(RunError, match="No space left on device"):
            Run.create(run.path.parent / "other", fakes.SPEC, fakes.TRAINING)
    assert content(run.path) == before
    assert [each.name for each in run.path.parent.iterdir()] == ["run"]
    run.save(random_state(2), epoch=0, cursor=2)
    assert newest_step(run) == 2


def test_weights_are_read_from_a_run_a_checkpoint_and_a_file(finished, run):
    newest = finished / "checkpoints" / "step-00000015"
    for path in (finished, newest, newest / "weights.safetensors"):
        found = find(str(path))
        assert found.spec == fakes.SPEC
        assert found.arrays.keys() == fakes.Trainer().arrays.keys()
    with pytest.raises(RunError, match="no checkpoint yet"):
        find(str(run.path))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_run_killed_at_any_operation_on_its_files_ends_where_it_would_have(tmp_path):
    script = [sys.executable, str(ROOT / "tests" / "crash.py"), str(tmp_path), "7", "3"]
    result = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    count = json.loads(result.stdout)
    assert min(count.values()) >= 8
