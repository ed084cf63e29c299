"""Run folders on file systems and systems that lack something: locks, flushes, POSIX's names.

And by several processes at once, as jobs that are started twice make them.
"""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import fakes
import pytest
from wings import ROOT, python

from parity import loop
from parity.runs import Run, disk, folder
from parity.runs.disk import RunError, RunWarning


def refusing(number: int):
    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


def trained(path: Path) -> None:
    with Run.create(path, fakes.SPEC, fakes.TRAINING) as run:
        loop.train(fakes.Trainer(), fakes.dataset(), run, progress=False)
    with Run.open(path) as run:
        found = run.newest()
    assert found is not None
    assert found.state.step == 15


@pytest.mark.parametrize("number", ["ENOSYS", "ENOTSUP", "EINVAL", "EPERM", "ENOLCK"])
def test_without_locks_a_run_is_made_and_gone_on_with_and_the_user_is_warned(
    tmp_path, monkeypatch, number
):
    monkeypatch.setattr(disk, "lock_descriptor", refusing(getattr(errno, number)))
    with pytest.warns(RunWarning, match="nothing keeps a second process out") as told:
        trained(tmp_path / "run")
    made, opened = [str(each.message) for each in told]
    assert made.startswith(f"{tmp_path / 'run'}: its file system has no locks")
    assert "the last to write" not in made
    assert f"the last to write was process {os.getpid()} on " in opened
    assert [each.name for each in tmp_path.iterdir()] == ["run"]


def test_without_locks_no_folder_that_may_be_in_use_is_cleared(tmp_path, monkeypatch):
    (tmp_path / ".run.12345.new").mkdir()
    monkeypatch.setattr(disk, "lock_descriptor", refusing(errno.ENOSYS))
    with pytest.warns(RunWarning):
        Run.create(tmp_path / "run", fakes.SPEC, fakes.TRAINING).close()
    assert sorted(each.name for each in tmp_path.iterdir()) == [".run.12345.new", "run"]


def test_a_lock_that_fails_otherwise_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "lock_descriptor", refusing(errno.EIO))
    with pytest.raises(RunError, match=r"could not make a run folder \(.+\); nothing was made"):
        Run.create(tmp_path / "run", fakes.SPEC, fakes.TRAINING)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_flush_is_passed_over_and_a_broken_disk_is_not(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "fsync", refusing(errno.EINVAL))
    trained(tmp_path / "run")
    monkeypatch.setattr(os, "fsync", refusing(errno.EIO))
    with pytest.raises(RunError, match="could not make a run folder"):
        Run.create(tmp_path / "other", fakes.SPEC, fakes.TRAINING)


def test_a_system_without_links_to_refuse_and_folders_to_open_is_fine(tmp_path, monkeypatch):
    """As far as Windows can be imitated: no fcntl either, in the test below."""
    monkeypatch.delattr(os, "O_NOFOLLOW")
    for module in (disk, folder):
        monkeypatch.setattr(module, "WINDOWS", True)
    (tmp_path / "run").mkdir()
    trained(tmp_path / "run")
    with (
        Run.open(tmp_path / "run"),
        pytest.raises(RunError, match="in use by process"),
    ):
        Run.open(tmp_path / "run")


WITHOUT = """
import sys
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"):
    sys.modules[name] = None
import os, signal
del os.O_NOFOLLOW
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2"):
    delattr(signal, name)
import importlib, pkgutil
import parity, fakes
from parity import loop, runs
for each in pkgutil.walk_packages(parity.__path__, "parity."):
    if "__main__" not in each.name:
        importlib.import_module(each.name)
with runs.Run.create(sys.argv[1], fakes.SPEC, fakes.TRAINING) as run:
    print(loop.train(fakes.Trainer(), fakes.dataset(), run).accuracy)
"""


def test_nothing_needs_posix_to_be_imported_and_a_training_none_of_it(tmp_path):
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    done = python("-c", WITHOUT, tmp_path / "run", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1.0"
    assert "nothing keeps a second process out" in done.stderr


CREATOR = """
import sys
import fakes
from parity.runs import Run
from parity.runs.disk import RunError
for line in sys.stdin:
    try:
        made = Run.create(line.strip(), fakes.SPEC, fakes.TRAINING)
        print("made", flush=True)
    except RunError as error:
        print(error, flush=True)
"""


def test_of_two_processes_that_make_a_run_at_once_one_does(tmp_path):
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    creators = [
        subprocess.Popen(
            [sys.executable, "-c", CREATOR],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for number in range(30):
            place = tmp_path / f"run-{number}"
            if number % 2:
                place.mkdir()  # an empty folder may be there before
            for each in creators:
                assert each.stdin is not None
                each.stdin.write(f"{place}\n")
            for each in creators:
                assert each.stdin is not None
                each.stdin.flush()
            said = sorted(each.stdout.readline().strip() for each in creators if each.stdout)
            assert said[1] == "made"
            assert said[0].startswith(f"{place}: already holds a run; go on with it by --resume")
            assert json.loads((place / "spec.json").read_text())["spec"]
    finally:
        for each in creators:
            each.communicate()
    assert not list(tmp_path.glob(".*"))


def test_a_folder_that_is_cleared_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    """By another process that takes it for one that was left, at each point where it can."""
    held, stages = disk.hold, []

    def late(path: Path, named: Path):
        if not stages:
            disk.discard(path)  # nothing is there to lock
        elif len(stages) == 1:
            return another(path)
        stages.append(path)
        return held(path, named)

    def another(path: Path):
        with open(path / ".lock", "a+") as file:
            assert disk.lock_descriptor(file.fileno(), blocking=False)
            stages.append(path)
            return held(path)

    monkeypatch.setattr(folder, "hold", late)
    Run.create(tmp_path / "run", fakes.SPEC, fakes.TRAINING).close()
    assert len({each.name for each in stages}) == len(stages) == 3
    assert [each.name for each in tmp_path.iterdir()] == ["run"]


def test_only_leftovers_of_this_very_run_are_cleared_and_none_in_use(tmp_path):
    others = [
        ".a.b.123.new",
        ".a.b.123-4f.new",
        ".a.5.99-0a.new",
        ".a.new",
        ".ab.1.new",
        ".a.7.newer",
    ]
    mine = [".a.123.new", ".a.123-4f5e.new"]
    for name in (*others, *mine, ".a.88-ff.new"):
        (tmp_path / name).mkdir()
    with disk.hold(tmp_path / ".a.88-ff.new"):
        Run.create(tmp_path / "a", fakes.SPEC, fakes.TRAINING).close()
    left = {each.name for each in tmp_path.iterdir()}
    assert left == {*others, ".a.88-ff.new", "a"}


def test_a_lock_of_a_deleted_folder_holds_nothing(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    lock = disk.lock_descriptor

    def deleted(*args, **more):
        (tmp_path / "run" / ".lock").unlink()
        return lock(*args, **more)

    monkeypatch.setattr(disk, "lock_descriptor", deleted)
    with pytest.raises(FileNotFoundError):
        disk.hold(tmp_path / "run")
