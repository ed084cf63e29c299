"""Pictures of real runs: by the command, at the end of a training, and for TensorBoard."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import fakes
import numpy as np
import pytest
import wings
from wings import ROOT

from parity import __main__ as door
from parity import loop
from parity.cli import train
from parity.figures import command, style
from parity.runs import Run

NAMES = ["confusion", "couplings", "curves", "perturbations", "reconstructions"]
FILES = sorted(f"{name}.{kind}" for name in NAMES for kind in ("png", "svg"))


class Trainer(fakes.Trainer):
    """The fake one, with what figures ask of a wing's: the class's score as the pose."""

    def poses(self, images):
        return self._probabilities(images)[1][:, :, None]

    def couplings(self, images):
        shape = self.spec.routing.num_iters, len(images), self.spec.num_inputs, self.spec.classes
        return np.full(shape, 1 / self.spec.classes, np.float32)

    def reconstruct(self, poses, labels):
        return np.ones((len(poses), *self.spec.image), np.float32) * poses.mean()


def trained(path, seed=11, trainer: type[fakes.Trainer] = Trainer):
    training = dataclasses.replace(fakes.TRAINING, seed=seed)
    with Run.create(path, fakes.SPEC, training) as run:
        made = trainer(training=training)
        loop.train(made, fakes.dataset(), run, progress=False)
    return run, made


def process(*argv: object) -> subprocess.CompletedProcess:
    """The real door in a process of its own, with a small preset and data set."""
    command = [sys.executable, str(ROOT / "tests" / "door.py"), *map(str, argv)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", params=wings.wide(wings.NAMES, "torch".__eq__))
def told(request, tmp_path_factory):
    """(wing, run folder, what training it with train.py said)."""
    path = tmp_path_factory.mktemp("figures") / "run"
    wanted = ["--backend", request.param, "--dataset", "tiny-stripes", "--epochs", "2"]
    return request.param, path, process("train", "--preset", "tiny", *wanted, "--out", path)


def test_a_training_ends_with_its_figures(told):
    _, path, said = told
    assert said.returncode == 0, said.stderr
    assert said.stderr == ""
    assert f"figures in {path / 'figures'}\n" in said.stdout
    assert sorted(each.name for each in (path / "figures").iterdir()) == FILES
    events = b"".join(each.read_bytes() for each in path.glob("events*"))
    for tag in ("routing/entropy", "couplings", "reconstructions", "perturbations"):
        assert events.count(b"\n" + bytes([len(tag)]) + tag.encode()) == 2, tag
    for name in NAMES:
        assert events.count(f"figures/{name}".encode()) == 1


@pytest.mark.slow
def test_the_command_draws_a_run_of_either_wing_with_the_other(told, tmp_path):
    backend, path, _ = told
    other = wings.NAMES[wings.NAMES.index(backend) - 1]
    said = process("figures", path, "--backend", other, "--out", tmp_path / "new")
    assert said.returncode == 0, said.stderr
    assert sorted(each.name for each in (tmp_path / "new").iterdir()) == FILES
    lines = [f"{tmp_path / 'new' / name}.png, .svg" for name in NAMES]
    assert sorted(said.stdout.splitlines()) == lines
    note = f"run run at step 26: tiny on tiny-stripes, {other}, float32, seed 0"
    # The text of an SVG is drawn as curves, with itself in a comment.
    assert f"<!-- {note} -->" in (tmp_path / "new" / "confusion.svg").read_text()
    both = ["confusion.svg", "curves.svg"]
    if other == backend:
        for name in both:
            assert (tmp_path / "new" / name).read_bytes() == (path / "figures" / name).read_bytes()


@pytest.mark.slow
def test_a_checkpoint_and_a_network_of_the_package_are_drawn_without_curves(told, tmp_path):
    backend, path, _ = told
    checkpoint = max((path / "checkpoints").iterdir())
    for what, more in ((checkpoint, []), ("small-mnist", ["--dataset", "mnist-mini"])):
        folder = tmp_path / Path(what).name
        said = process("figures", what, "--backend", backend, "--out", folder, *more)
        assert said.returncode == 0, said.stderr
        drawn = {each.name for each in folder.iterdir()}
        assert drawn == {each for each in FILES if not each.startswith("curves")}
    same = "confusion.png"
    assert (tmp_path / checkpoint.name / same).read_bytes() == (
        path / "figures" / same
    ).read_bytes()


def test_two_runs_are_drawn_in_one_figure_without_a_wing(tmp_path, capsys):
    for seed in (11, 13):
        trained(tmp_path / str(seed), seed, fakes.Trainer)
    argv = ["figures", tmp_path / "11", "--against", tmp_path / "13"]
    assert door.main([str(each) for each in argv]) == 0
    file = tmp_path / "11" / "figures" / "curves-against-13.png"
    assert capsys.readouterr().out == f"{file}, .svg\n"
    assert {each.name for each in file.parent.iterdir()} == {file.name, f"{file.stem}.svg"}
    drawn = file.with_suffix(".svg").read_text()
    assert "<!-- 11, torch -->" in drawn
    assert "<!-- 13, torch -->" in drawn


def test_what_cannot_be_drawn_is_refused(tmp_path, capsys, monkeypatch):
    Run.create(tmp_path / "new", fakes.SPEC, fakes.TRAINING).close()
    run, _ = trained(tmp_path / "run", trainer=fakes.Trainer)
    cases = [
        ([tmp_path / "nowhere"], "no such run or file"),
        ([run.path / "checkpoints" / "step-00000015"], "name a folder with --out"),
        ([tmp_path / "new"], "no training step yet"),
        ([run.path, "--against", tmp_path / "new"], "no training step yet"),
        ([run.path, "--dataset", "mnlst"], "data set 'mnlst' is unknown"),
        ([run.path, "--ema"], "its weights were not averaged"),
        ([run.path, "--dataset", "mnist-mini"], "has images of (28, 28, 1)"),
    ]
    for argv, says in cases:
        assert door.main(["figures", *map(str, argv)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert says in line
    shutil.rmtree(run.path / "checkpoints")
    assert door.main(["figures", str(run.path)]) == 2
    assert "holds no checkpoint, though metrics.jsonl records" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert door.main(["figures", str(run.path)]) == 2
    assert "pip install 'twincaps[figures]'" in capsys.readouterr().err


@pytest.mark.parametrize("error", [style.FiguresError("no matplotlib"), ZeroDivisionError("oh")])
def test_what_goes_wrong_in_drawing_is_told_in_a_line_after_the_training(
    tmp_path, capsys, monkeypatch, error
):
    def fail():
        raise error

    run, made = trained(tmp_path / "run")
    monkeypatch.setattr(style, "load", fail)
    train._illustrate(run, made, fakes.dataset())
    expected = f"no figures: {error}; then: python -m parity figures {run.path}\n"
    assert capsys.readouterr().out == expected


def test_a_trainer_that_is_no_wings_has_no_figures(tmp_path, capsys):
    run, made = trained(tmp_path / "run", trainer=fakes.Trainer)
    train._illustrate(run, made, fakes.dataset())
    assert list((run.path / "figures").iterdir()) == []
    assert capsys.readouterr().out == ""


def test_figures_at_the_end_are_of_the_first_test_images_and_say_so(tmp_path, monkeypatch):
    run, made = trained(tmp_path / "run")
    monkeypatch.setattr(command, "QUICK", 3)
    command.illustrate(run, made, fakes.dataset(test=23))
    drawn = (run.path / "figures" / "confusion.svg").read_text()
    assert "of the first 4 of 23 test images" in drawn  # a whole batch


@pytest.mark.parametrize("missing", ["tensorboardX", "PIL"])
def test_tensorboard_goes_without_what_is_not_installed(tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with Run.create(tmp_path / "run", fakes.SPEC, fakes.TRAINING) as run:
        loop.train(Trainer(), fakes.dataset(), run)
    events = b"".join(each.read_bytes() for each in run.path.glob("events*"))
    assert (b"test/accuracy" in events) == (missing == "PIL")
    assert b"routing/entropy" not in events


def test_tensorboard_that_cannot_be_loaded_is_gone_without(tmp_path, monkeypatch):
    broken = tmp_path / "tensorboardX"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('cannot import name X from protobuf')\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboardX"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with Run.create(tmp_path / "run", fakes.SPEC, fakes.TRAINING) as run:
        loop.train(Trainer(), fakes.dataset(), run)
    assert list(run.path.glob("events*")) == []
