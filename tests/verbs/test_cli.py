"""The command line: its flags and defaults, what it refuses, and what it leaves behind.

Most tests run it in this process with the fake Trainer in the place of a wing's.
"""

import dataclasses
import importlib.metadata
import re
import sys
import types
import warnings
from pathlib import Path

import fakes
import numpy as np
import pytest
from PIL import Image

import parity.__main__ as door
from parity import cli, data, spec
from parity.cli.flags import Flags, defaults, recipe, usual_dataset
from parity.cli.reporting import reporting
from parity.data.sets import mnist_mini
from parity.runs import Run
from parity.spec.convolution import METHODS
from parity.wing.processes import Place

FLAGS = [
    *("--backend", "--preset", "--dataset", "--data-dir", "--epochs", "--batch-size"),
    *("--learning-rate", "--decay-steps", "--optimizer", "--seed", "--precision", "--device"),
    *(
        "--compile",
        "--clip-norm",
        "--ema",
        "--validation",
        "--lean",
        "--block",
        "--convolution",
        "--checkpoint-every",
    ),
    *("--out", "--resume"),
]


@pytest.fixture(autouse=True)
def wing(tmp_path, monkeypatch):
    """Both wings are the fake one; the working folder is new and its preset is `fake`."""
    strict = []
    for name in ("torch_caps", "jax_caps"):
        numerics = types.SimpleNamespace(strict=strict.append, cache=lambda folder: None)
        monkeypatch.setitem(sys.modules, f"{name}.numerics", numerics)
        training = types.SimpleNamespace(Trainer=fakes.Trainer)
        monkeypatch.setitem(sys.modules, f"{name}.training", training)
        processes = types.SimpleNamespace(join=lambda **_: None)
        monkeypatch.setitem(sys.modules, f"{name}.processes", processes)
    digits = dataclasses.replace(fakes.PRESET.training, dataset="mnist-mini")
    fake = dataclasses.replace(fakes.PRESET, training=digits)
    monkeypatch.setitem(spec.PRESETS, "fake", fake)
    monkeypatch.chdir(tmp_path)
    return strict


def train(*argv: object) -> int:
    return cli.main(["--preset", "fake", *map(str, argv)])


def resume(*argv: object) -> int:
    return cli.main(["--resume", *map(str, argv)])


def told(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


def tree() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


def test_the_flags_are_these_and_help_shows_each(capsys):
    names = [f"--{each.name.replace('_', '-')}" for each in dataclasses.fields(Flags)]
    assert names == FLAGS
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"{flag} " in shown or f"{flag}," in shown for flag in FLAGS)
    assert "None" not in shown
    # The tests' own presets come after the help was made.
    presets = {name for name in spec.PRESETS if not name.startswith(("fake", "tiny"))}
    assert presets <= set(re.split(r"[\s,.]+", shown))


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        ([], "usage: twincaps VERB"),
        (["train"], "usage: twincaps train"),
        (["inspect"], "usage: twincaps inspect"),
    ],
)
def test_the_console_script_shows_its_own_name(argv, shown, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/somewhere/twincaps", *argv, "--help"])
    if argv:
        with pytest.raises(SystemExit, match=r"^0$"):
            door.script()
    else:
        assert door.script() == 0
    assert capsys.readouterr().out.startswith(shown)


def test_the_version_names_what_is_installed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["twincaps", "--version"])
    assert door.script() == 0
    versions = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert list(versions)[:2] == ["twincaps", "python"]
    for name in {"twincaps", "numpy", "torch", "jax", "flax"} & {*versions}:
        assert versions[name] == importlib.metadata.version(name)
    assert versions.keys() & {"torch", "jax"}


@pytest.mark.parametrize("preset", ["sabour2017", "sabour2017-official", "small"])
@pytest.mark.parametrize("dataset", ["mnist-mini", "mnist"])
def test_what_is_not_given_comes_from_the_recipe_or_else_the_preset(preset, dataset):
    flags, training = defaults(preset, dataset), spec.PRESETS[preset].training
    recipe = data.entry(dataset).recipe
    assert flags.epochs == recipe.get("epochs", training.epochs)
    assert flags.batch_size == recipe.get("batch_size", training.batch_size)
    assert flags.learning_rate == recipe.get("learning_rate", training.learning_rate)
    assert (flags.backend, flags.device, flags.compile) == ("torch", "cpu", False)
    assert flags.out is flags.resume is flags.data_dir is flags.clip_norm is None


def test_a_preset_may_have_a_recipe_of_its_own_for_a_data_set(monkeypatch):
    card = dataclasses.replace(
        spec.PRESETS["small"], recipes={"mnist-mini": {"epochs": 7, "decay_steps": 312}}
    )
    monkeypatch.setitem(spec.PRESETS, "small", card)
    own = spec.TrainingSpec(dataset="mnist-mini", epochs=7, decay_steps=312, learning_rate=2e-3)
    assert recipe("small", "mnist-mini") == own
    assert recipe("small", "mnist") == card.training


@pytest.mark.parametrize("name", ["affnist", "affnist-like"])
def test_digits_that_are_placed_at_random_are_not_augmented_besides(name, monkeypatch):
    training = dataclasses.replace(spec.PRESETS["small"].training, augment="efficient")
    card = dataclasses.replace(spec.PRESETS["small"], training=training)
    monkeypatch.setitem(spec.PRESETS, "small", card)
    assert recipe("small", name) == dataclasses.replace(training, dataset=name, augment="shift")


@pytest.mark.parametrize("preset", sorted(spec.PRESETS))
def test_the_data_set_comes_from_the_preset_unless_given(preset):
    own = spec.preset_card(preset).training.dataset
    assert usual_dataset(preset) == ("mnist-mini" if own == "mnist" else own)


def test_a_preset_alone_trains_on_its_own_data_set(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(data, "load", lambda name, folder: asked.append(name) or 1 / 0)
    for argv, dataset in (
        (["--preset", "sabour2017-cifar10"], "cifar10"),
        (["--preset", "sabour2017-multimnist"], "multi-mnist"),
        (["--preset", "sabour2017-cifar10", "--dataset", "svhn"], "svhn"),
        ([], "mnist-mini"),
    ):
        with pytest.raises(ZeroDivisionError):
            cli.main(argv)
        assert asked.pop() == dataset
    assert cli.main(["--preset", "nosuch"]) == 2
    assert "preset 'nosuch' is unknown" in told(capsys)


def test_validation_is_told_and_its_checkpoint_named(capsys):
    assert train("--epochs", 2, "--out", "r", "--validation", 500, "--ema", 0.9) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "validation 500 (preset 0)" in lines[1]
    assert re.search(
        r"^chosen on 500 validation images: r/checkpoints/step-\d+(, its averaged weights)?; "
        r"validation accuracy 0\.\d+, test accuracy 0\.\d+ \(error .*%\)$",
        lines[-2],
    )
    assert train("--out", "s", "--validation", 5000) == 2
    assert "leaves none of class 0 to train on; expected fewer" in told(capsys)
    assert not Path("s").exists()
    assert resume("r", "--validation", 400) == 2
    assert "--validation 400: the run at r has 500" in told(capsys)


def test_a_recipe_may_set_what_has_no_flag(monkeypatch, capsys):
    recipe = {"epochs": 1, "ema": 0.75, "beta1": 0.5}
    changed = dataclasses.replace(mnist_mini.DATASET, recipe=recipe)
    monkeypatch.setattr(mnist_mini, "DATASET", changed)
    assert train("--out", "r", "--batch-size", 500, "--decay-steps", 7) == 0
    with Run.open("r") as run:
        training = run.training
        assert (training.ema, training.decay_steps, training.beta1) == (0.75, 7, 0.5)
    told = capsys.readouterr().out
    assert "decay steps 7 (preset 2000)" in told
    assert "ema 0.75 (preset None)" in told


def test_a_folder_of_pictures_decides_the_size_and_classes_of_the_network(capsys):
    random = np.random.default_rng(1)
    for kind in ("ant", "bee", "cat", "dog", "eel", "fox", "gnu"):
        for n in range(5):
            path = Path("mine", kind, f"{n}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (13, 17, 3), np.uint8)).save(path)
    data_flags = ("--dataset", "folder", "--data-dir", "mine", "--batch-size", 7)
    command = (*data_flags, "--learning-rate", 0.01, "--out", "r")
    assert train(*command) == 0
    with Run.open("r") as run:
        assert (run.spec.image, run.spec.classes) == ((13, 17, 3), 7)
        rest = dataclasses.replace(run.spec, image=(28, 28, 1), classes=10)
        assert rest == fakes.PRESET.network
        assert run.options.data_dir == str(Path("mine").absolute())
    assert door.main(["evaluate", "r"]) == 0
    assert " of 7 images of folder, torch)" in capsys.readouterr().out
    assert cli.main(["--preset", "sabour2017", *map(str, command[:-1]), "s"]) == 2
    assert "is larger than its input of 5x9" in told(capsys)
    assert not Path("s").exists()


def test_training_says_what_runs_and_where_and_how_well(capsys, wing):
    assert train("--epochs", 2, "--seed", 5, "--learning-rate", 0.5, "--clip-norm", 3) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == (
        "fake on mnist-mini, torch on cpu, float32: 2 epochs, batch 32, sgd at 0.5, seed 5"
    )
    assert out[1] == (
        "departs from the preset: epochs 2 (preset 3), batch size 32 (preset 4), "
        "decay steps 10 (preset 2000), clip norm 3.0 (preset None)"
    )
    assert out[2] == "run folder runs/fake-mnist-mini-torch-5"
    with Run.open("runs/fake-mnist-mini-torch-5") as run:
        lines = run.metrics()
        assert (run.training.epochs, run.training.clip_norm, run.preset) == (2, 3.0, "fake")
        assert (run.spec.image, run.spec.classes) == ((28, 28, 1), 10)
    assert (len(lines), lines[-1]["step"]) == (2 * 156 + 2, 2 * 156)
    accuracy = lines[-1]["accuracy"]
    assert f"test accuracy {accuracy:.4f} (error {1 - accuracy:.2%}), of the last epoch" in out[-2]
    assert out[-1] == f"evaluate it with: python -m parity evaluate {run.path}"
    assert wing == ["float32"]


def test_the_default_folder_is_the_next_free_one():
    for _ in range(3):
        assert train("--epochs", 1) == 0
    expected = {f"fake-mnist-mini-torch-0{suffix}" for suffix in ("", "-2", "-3")}
    assert {path.name for path in Path("runs").iterdir()} == expected


def test_a_run_goes_on_with_more_epochs_another_wing_and_another_device(capsys):
    assert train("--epochs", 1, "--out", "r") == 0
    assert resume("r") == 0
    out = capsys.readouterr().out
    assert "nothing to train: 1 epochs are done" in out
    assert out.count("\ntest accuracy 0.") == 2
    more = ("--epochs", 2, "--backend", "jax", "--device", "cuda", "--compile", "--data-dir", ".")
    more += ("--no-lean", "--block", 3, "--checkpoint-every", 100)
    assert resume("r", *more) == 0
    with Run.open("r") as run:
        assert run.training.epochs == 2
        options = spec.RunOptions("jax", "cuda", True, False, 3, 100, str(Path().absolute()))
        assert run.options == options
        assert [line["step"] for line in run.metrics() if line["event"] == "eval"] == [156, 312]
    assert resume("r", "--no-compile") == 0  # what is not given stays as it was
    with Run.open("r") as run:
        assert run.options == dataclasses.replace(options, compile=False)


def test_resume_auto_begins_and_goes_on_with_the_same_command_line():
    command = ("--resume", "auto", "--out", "r/", "--epochs", 1, "--seed", 3)
    for _ in range(2):
        assert train(*command) == 0
    assert [path.name for path in Path().iterdir()] == ["r"]
    for _ in range(2):
        assert train("--resume", "auto", "--epochs", 1) == 0
    assert [path.name for path in Path("runs").iterdir()] == ["fake-mnist-mini-torch-0"]


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--preset", "small"),
        ("--dataset", "mnist"),
        ("--batch-size", 32),
        ("--learning-rate", 0.25),
        ("--optimizer", "adam"),
        ("--seed", 4),
        ("--precision", "float64"),
        ("--clip-norm", 2.0),
        ("--decay-steps", 3),
        ("--ema", 0.5),
        ("--out", "other"),
    ],
)
def test_what_makes_a_run_cannot_change_in_it(capsys, flag, value):
    Run.create("r", fakes.PRESET.network, fakes.PRESET.training, preset="fake").close()
    before = tree()
    assert resume("r", flag, value) == 2
    assert told(capsys).startswith(f"error: {flag} {value}: the run at r has ")
    assert tree() == before


BAD = {
    "preset": (["--preset", "huge"], "preset 'huge' is unknown; expected one of sabour2017, "),
    "dataset": (["--dataset", "mnlst"], "data set 'mnlst' is unknown; expected one of "),
    "batch size 0": (["--batch-size", 0], "batch_size is 0; expected a whole number above 0"),
    "batch too large": (["--batch-size", 5001], "5001 is larger than the 5000 training images"),
    "no epochs": (["--epochs", 0], "epochs is 0"),
    "seed": (["--seed", -1], "seed is -1"),
    "rate": (["--learning-rate", "nan"], "learning_rate is nan"),
    "clip norm": (["--clip-norm", 0], "clip_norm is 0.0"),
    "ema": (["--ema", 1.5], "ema is 1.5; expected a number below 1"),
    "block": (["--block", 0], "block is 0"),
    "no data folder": (["--dataset", "mnist", "--data-dir", "nowhere"], "nowhere"),
    "no run": (["--resume", "nowhere"], "nowhere: no run here"),
    "kernel": (["--preset", "coarse"], "a kernel of 29x29 (stride 1) is larger than its input"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line_and_leaves_nothing(capsys, monkeypatch, case):
    large = dataclasses.replace(fakes.PRESET.network, image=(99, 99, 1), stem=(spec.Conv(2, 29),))
    fake = spec.PRESETS["fake"]
    monkeypatch.setitem(spec.PRESETS, "coarse", dataclasses.replace(fake, network=large))
    argv, says = BAD[case]
    assert cli.main([str(each) for each in argv]) == 2
    line = told(capsys)
    assert line.startswith("error: ")
    assert says in line
    assert tree() == set()


@pytest.mark.parametrize(
    ("flag", "choices"),
    {
        "backend": spec.BACKENDS,
        "optimizer": spec.OPTIMIZERS,
        "precision": spec.PRECISIONS,
        "convolution": METHODS,
    }.items(),
)
def test_a_flag_of_a_few_choices_shows_and_refuses_by_them(capsys, flag, choices):
    with pytest.raises(SystemExit, match=r"^2$"):
        cli.main([f"--{flag}", "lion"])
    said = capsys.readouterr().err
    assert all(word in said for word in ("invalid choice 'lion'", f"--{flag}", *choices))
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(["--help"])
    assert f"--{flag} {{{','.join(choices)}}}" in re.sub(r"\s+", " ", capsys.readouterr().out)


@pytest.mark.parametrize("argv", [["--bogus"], ["--epochs", "few"], ["--seed"], ["stray"]])
def test_what_is_no_flag_is_refused(capsys, argv):
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 2
    assert argv[0] in capsys.readouterr().err
    assert tree() == set()


def test_bad_data_files_are_refused_and_leave_nothing(capsys):
    folder = Path("data")
    folder.mkdir()
    name = "train-images-idx3-ubyte"
    for content in (b"", b"\x00\x00\x08\x03" + b"\xff" * 12, b"words"):
        (folder / name).write_bytes(content)
        assert train("--dataset", "mnist", "--data-dir", folder) == 2
        assert capsys.readouterr().err.startswith("error: ")
        assert tree() == {"data", f"data/{name}"}


@pytest.mark.parametrize("occupant", ["run", "folder", "file"])
def test_an_occupied_folder_is_refused_before_anything_is_loaded(capsys, monkeypatch, occupant):
    if occupant == "run":
        Run.create("place", fakes.PRESET.network, fakes.TRAINING).close()
    elif occupant == "folder":
        Path("place").mkdir()
        Path("place/mine").touch()
    else:
        Path("place").touch()
    before = tree()
    monkeypatch.setattr(data, "load", lambda *_: pytest.fail("data were loaded"))
    assert train("--out", "place") == 2
    assert told(capsys).startswith("error: place: ")
    assert tree() == before


def test_a_loss_that_is_no_number_ends_with_the_last_good_checkpoint(capsys, monkeypatch):
    step = fakes.Trainer.step

    def spoilt(self, *batch):
        return {**step(self, *batch), "loss": float("inf" if self.steps == 160 else 1)}

    monkeypatch.setattr(fakes.Trainer, "step", spoilt)
    assert train("--out", "r") == 2
    error = told(capsys)
    assert "the loss is inf at step 160 of epoch 2" in error
    assert "the last good checkpoint is r/checkpoints/step-00000156" in error


def test_a_device_that_is_not_there_is_told_of(capsys, monkeypatch):
    def absent(*_, device, **__):
        raise RuntimeError("no such device\nlong story")

    monkeypatch.setattr(fakes.Trainer, "__init__", absent)
    assert train("--device", "cuda") == 2
    assert told(capsys) == "error: --device cuda: no such device; try --device cpu"
    assert tree() == set()
    with pytest.raises(RuntimeError, match="no such device"):  # a fault of ours is no user's
        train()


def test_interrupted_before_training_is_130(capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "load", interrupt)
    assert train() == 130
    assert told(capsys) == "interrupted"
    assert tree() == set()


def test_a_damaged_checkpoint_is_told_of_in_one_line(capsys):
    assert train("--epochs", 2, "--out", "r") == 0
    Path("r/checkpoints/step-00000312/state.json").unlink()
    capsys.readouterr()
    assert resume("r") == 0
    line = told(capsys)
    assert line.startswith("warning: r/checkpoints/step-00000312/state.json: no such file")
    assert line.endswith("going on from r/checkpoints/step-00000156 instead")


def test_a_run_made_without_a_preset_goes_on(capsys):
    training = dataclasses.replace(fakes.TRAINING, dataset="mnist-mini", batch_size=500, epochs=1)
    Run.create("r", fakes.PRESET.network, training).close()
    assert resume("r") == 0
    assert capsys.readouterr().out.startswith("a network on mnist-mini, torch on cpu")


@pytest.mark.parametrize("argv", [[], ["trian"], ["--train"]])
def test_an_unknown_verb_is_refused_with_the_list(capsys, argv):
    assert door.main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert all(verb in error for verb in door.VERBS)


def test_help_lists_the_verbs_and_each_row_names_a_function(capsys):
    assert door.main(["--help"]) == 0
    out = capsys.readouterr().out
    for verb, (module, function, says) in door.VERBS.items():
        assert f"  {verb} " in out
        assert says in out
        assert callable(getattr(importlib.import_module(module), function))


def test_train_is_a_verb_too():
    assert door.main(["train", "--preset", "fake", "--epochs", "1", "--out", "r"]) == 0
    assert Path("r/metrics.jsonl").exists()


def test_of_several_processes_the_first_alone_warns(capsys):
    for rank in (None, 0, 1):
        with reporting(None if rank is None else Place(rank, 2, rank)):
            warnings.warn("a thing", data.DataWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: a thing\n" * 2
