"""A run goes on through everything: the command line in processes of its own, with each wing.

One run is never disturbed. Another is stopped by Ctrl-C, killed by kill -9 and has its newest
checkpoint torn, and must end where the first one does, bit for bit.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import wings
from wings import ROOT

from parity.runs import Run
from parity.saved import find

RUN = ["train", "--preset", "tiny", "--dataset", "tiny-stripes"]


def door(*argv: object, signal: str = "") -> subprocess.CompletedProcess:
    """The command line, in a process that DOOR_SIGNAL disturbs."""
    environment = {
        **os.environ,
        "DOOR_SIGNAL": signal,
        "DOOR_FIGURES": "none",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, str(ROOT / "tests" / "door.py"), *map(str, argv)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def lines(run: Path) -> list[dict]:
    with Run.open(run, read_only=True) as opened:
        return [{k: v for k, v in x.items() if k != "images_per_second"} for x in opened.metrics()]


def last(run: Path) -> list[bytes]:
    """The bytes of the last weights and optimiser state."""
    path = run / "checkpoints" / "step-00000039"
    return [(path / f"{name}.safetensors").read_bytes() for name in ("weights", "optimizer")]


@dataclass
class Story:
    """An undisturbed run, one that was disturbed, and what each process said."""

    backend: str
    whole: Path
    broken: Path
    killed: Path  # a copy of the disturbed one, as it was after the kill
    said: dict[str, subprocess.CompletedProcess] = field(default_factory=dict)


@pytest.fixture(scope="module", params=wings.wide(wings.NAMES, "torch".__eq__))
def story(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"resume-{request.param}")
    told = Story(request.param, *(folder / name for name in ("whole", "broken", "killed")))
    wing, said = ("--backend", told.backend), told.said
    said["whole"] = door(*RUN, *wing, "--out", told.whole)
    said["stopped"] = door(*RUN, *wing, "--out", told.broken, signal="2@17")
    said["killed"] = door("train", "--resume", told.broken, signal="9@33")
    shutil.copytree(told.broken, told.killed)
    torn = told.broken / "checkpoints" / "step-00000026" / "optimizer.safetensors"
    torn.write_bytes(torn.read_bytes()[:-7])
    said["finished"] = door(*RUN, *wing, "--resume", "auto", "--out", told.broken)
    return told


def test_an_undisturbed_run_learns_and_says_so(story):
    said = story.said["whole"]
    assert said.returncode == 0, said.stderr
    accuracy = lines(story.whole)[-1]["accuracy"]
    assert accuracy > 0.9
    assert f"test accuracy {accuracy:.4f}" in said.stdout
    assert f"python -m parity evaluate {story.whole}" in said.stdout


def test_ctrl_c_saves_and_says_how_to_go_on(story):
    said = story.said["stopped"]
    assert said.returncode == 130
    assert "stopped after step 17 of epoch 2" in said.stderr
    assert f"python -m parity train --resume {story.broken}" in said.stderr
    assert "Traceback" not in said.stderr


def test_kill_9_leaves_the_newest_checkpoint(story):
    assert story.said["killed"].returncode == -9
    assert lines(story.killed)[-1]["step"] == 33
    with Run.open(story.killed, read_only=True) as run:
        found = run.newest()
    assert found is not None
    assert found.state.step == 26


def test_a_torn_checkpoint_is_named_and_the_one_before_it_taken(story):
    said = story.said["finished"]
    assert said.returncode == 0, said.stderr
    (warning,) = [line for line in said.stderr.splitlines() if line.startswith("warning: ")]
    assert "step-00000026/optimizer.safetensors" in warning
    assert "going on from" in warning
    assert "step-00000017" in warning


def test_the_disturbed_run_ends_bit_for_bit_where_the_undisturbed_one_does(story):
    assert last(story.broken) == last(story.whole)
    assert lines(story.broken) == lines(story.whole)


@pytest.mark.slow
def test_the_same_seed_is_the_same_run(story, tmp_path):
    said = door(*RUN, "--backend", story.backend, "--out", tmp_path / "again")
    assert said.returncode == 0, said.stderr
    assert lines(tmp_path / "again") == lines(story.whole)
    assert last(tmp_path / "again") == last(story.whole)


@pytest.mark.skipif(len(wings.NAMES) < 2, reason="needs both wings")
def test_a_run_goes_on_in_the_other_framework(story, tmp_path):
    (other,) = set(wings.NAMES) - {story.backend}
    run = Path(shutil.copytree(story.killed, tmp_path / "run"))
    said = door("train", "--resume", run, "--backend", other)
    assert said.returncode == 0, said.stderr
    assert f"{other} on cpu" in said.stdout
    assert lines(run)[:28] == lines(story.whole)[:28]  # 26 steps and two evaluations
    for ours, theirs in zip(lines(run)[28:], lines(story.whole)[28:], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
    ours, theirs = (find(str(each)).arrays for each in (run, story.whole))
    assert max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours) < 1e-3


def test_evaluate_agrees_with_the_last_evaluation(story, tmp_path):
    weights = story.whole / "checkpoints" / "step-00000039" / "weights.safetensors"
    shutil.copy(weights, tmp_path / "mine.safetensors")
    where = ("--backend", story.backend, "--dataset", "tiny-stripes")
    said = door("evaluate", tmp_path / "mine.safetensors", *where, "--json")
    assert said.returncode == 0, said.stderr
    found, expected = json.loads(said.stdout), lines(story.whole)[-1]
    assert (found["accuracy"], found["count"]) == (expected["accuracy"], 23)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-6)


def test_a_run_in_use_is_refused(story):
    with Run.open(story.whole):
        said = door("train", "--resume", story.whole)
    assert said.returncode == 2
    assert f"in use by process {os.getpid()} on " in said.stderr
