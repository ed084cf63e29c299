"""A run that changes framework after its first epoch, through the command line, both ways.

Two epochs of the preset `small` on `mnist-mini`, against the runs that were not handed over.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from wings import PACKAGES, ROOT, difference, door

from parity.runs import Run
from parity.runs.checkpoints import Checkpoint
from parity.saved import find

RUN = ("--preset", "small", "--epochs", "1")


@pytest.fixture(autouse=True)
def undrawn(tmp_path, monkeypatch):
    """Without matplotlib: figures would take a quarter of the time."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "matplotlib.py").write_text("raise ModuleNotFoundError('matplotlib')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hidden"))


def train(*argv: object, precision: str) -> None:
    """train.py in a process of its own, which sets JAX's 64-bit types and XLA's flags itself."""
    environment = {k: v for k, v in os.environ.items() if k not in ("JAX_ENABLE_X64", "XLA_FLAGS")}
    command = [sys.executable, str(ROOT / "train.py"), *map(str, argv)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert precision in said.stdout


def accuracy(run: Path) -> float:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return json.loads(lines[-1])["accuracy"]


def apart(a: Path, b: Path) -> float:
    """How far the parameters of two runs are from each other, by the ladder's measure."""
    ours, theirs = (find(str(each)).arrays for each in (a, b))
    assert ours.keys() == theirs.keys()
    assert all(np.isfinite(each).all() for each in ours.values())
    return max(difference(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("float64", marks=pytest.mark.float64)]
)
def test_a_run_changes_framework_after_its_first_epoch(both_wings, tmp_path, precision):
    begun = {wing: tmp_path / wing for wing in PACKAGES}
    for wing, run in begun.items():
        train(*RUN, "--precision", precision, "--backend", wing, "--out", run, precision=precision)
    ended = {}
    for first, then in itertools.product(PACKAGES, PACKAGES):
        run = ended[first, then] = tmp_path / f"{first}-{then}"
        shutil.copytree(begun[first], run)
        train("--resume", run, "--backend", then, "--epochs", 2, precision=precision)
    for ours, other in itertools.permutations(PACKAGES):
        handed = ended[ours, other]
        for whole in (ended[ours, ours], ended[other, other]):
            if precision == "float64":
                assert apart(handed, whole) < 1e-9
            assert accuracy(handed) == pytest.approx(accuracy(whole), abs=0.003)
            assert accuracy(whole) > 0.9


@pytest.mark.slow
@pytest.mark.float64
def test_running_numbers_and_slots_go_over_with_a_run(both_wings, tmp_path):
    """A network with state: one epoch in each wing, the second in either, all of it to 1e-9."""
    how = ("--preset", "tiny-efficient", "--dataset", "tiny-stripes", "--precision", "float64")
    begun = {wing: tmp_path / wing for wing in PACKAGES}
    for wing, run in begun.items():
        said = door("train", *how, "--epochs", 1, "--ema", 0.9, "--backend", wing, "--out", run)
        assert said.returncode == 0, said.stderr
    ended = {}
    for first, then in itertools.product(PACKAGES, PACKAGES):
        run = ended[first, then] = tmp_path / f"{first}-{then}"
        shutil.copytree(begun[first], run)
        said = door("train", "--resume", run, "--backend", then, "--epochs", 2)
        assert said.returncode == 0, said.stderr
    whole = newest(ended["torch", "torch"])
    assert whole.state.epoch == 2
    names = {"weights": "stem.0.norm.variance", "optimizer": "ema/stem.1.norm.mean"}
    before = newest(begun["torch"])
    for part, name in names.items():
        assert (getattr(whole, part)[name] != getattr(before, part)[name]).all(), name
    for key, run in ended.items():
        other = newest(run)
        for part in names:
            ours, theirs = getattr(whole, part), getattr(other, part)
            assert ours.keys() == theirs.keys()
            for name, array in ours.items():
                assert array.dtype == np.float64
                assert difference(array, theirs[name]) < 1e-9, (key, part, name)


def newest(run: Path) -> Checkpoint:
    """The last checkpoint of a run, whole."""
    with Run.open(run, read_only=True) as opened:
        checkpoint = opened.newest()
    assert checkpoint is not None
    return checkpoint
