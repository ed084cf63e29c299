"""A run and a weights file hold what was trained on; what no longer fits is refused or told of."""

import dataclasses
import json
import warnings
from pathlib import Path

import fakes
import numpy as np
import pytest
import wings
from PIL import Image

import parity.__main__ as door
from parity import data, loop, saved, weights
from parity.data import Dataset, Split, changed, fingerprint, registry, renamed
from parity.runs import Run, RunError, RunWarning
from parity.spec import TrainedOn, preset, to_dict

NAMED = dataclasses.replace(fakes.dataset(), class_names=("ant", "bee", "cat"))


def split(of: Split, **fields: np.ndarray) -> Split:
    return dataclasses.replace(of, **fields)


def with_train(**fields: np.ndarray) -> Dataset:
    return dataclasses.replace(NAMED, train=split(NAMED.train, **fields))


def darker(images: np.ndarray) -> np.ndarray:
    return (images * np.float32(0.9)).astype(np.float32)


TRAIN, TEST = NAMED.train, NAMED.test
CHANGED = {
    "more images": (fakes.dataset(train=31), "23 training images then, 31 now"),
    "labels": (with_train(labels=TRAIN.labels[::-1]), "other labels of training images"),
    "pixels": (with_train(images=darker(TRAIN.images)), "other pixels of training images"),
}
TOLD = {
    "a name": (dataclasses.replace(NAMED, class_names=("ant", "fly", "cat")), "1: 'bee' then"),
    "test pixels": (
        dataclasses.replace(NAMED, test=split(TEST, images=darker(TEST.images))),
        "other pixels of test images",
    ),
}


def train(run: Run, dataset: Dataset = NAMED) -> None:
    loop.train(fakes.Trainer(), dataset, run, progress=False)


@pytest.fixture
def run(tmp_path):
    with Run.create(tmp_path / "run", fakes.SPEC, fakes.TRAINING) as made:
        train(made)
        yield made


def test_a_run_and_the_weights_in_it_hold_what_was_trained_on(run):
    expected = fingerprint(NAMED)
    assert (expected.dataset, expected.class_names) == ("fake", ("ant", "bee", "cat"))
    assert expected.train is not None
    assert expected.train.count == 23
    with Run.open(run.path, read_only=True) as again:
        assert again.trained_on == expected
        newest = again.newest()
    assert newest is not None
    file = newest.path / "weights.safetensors"
    assert weights.trained_on(file) == expected
    for name in (run.path, newest.path, file):
        assert saved.find(str(name)).trained_on == expected
    assert saved.find(str(file)).names == ("ant", "bee", "cat")


@pytest.mark.parametrize("case", CHANGED)
def test_a_run_does_not_go_on_with_other_data(run, case):
    other, says = CHANGED[case]
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=rf"trained on other data than fake is now \({says}\)"):
        train(run, other)
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", TOLD)
def test_a_run_goes_on_and_tells_of_what_is_not_trained_on(run, case):
    other, says = TOLD[case]
    with pytest.warns(RunWarning, match=says):
        train(run, other)
    assert run.trained_on == fingerprint(NAMED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(run)


def test_what_was_saved_before_holds_nothing_and_stays_as_it_is(tmp_path):
    drawn = weights.draw(fakes.SPEC, 3)
    plain, known = tmp_path / "plain.safetensors", tmp_path / "known.safetensors"
    weights.save(plain, fakes.SPEC, drawn)
    weights.save(known, fakes.SPEC, drawn, fingerprint(NAMED))
    assert weights.trained_on(plain) is None
    assert saved.find(str(plain)).trained_on == TrainedOn()
    assert saved.find(str(plain)).names == ("0", "1", "2")
    (one, arrays), (other, others) = weights.load(plain), weights.load(known)
    assert one == other
    assert all((arrays[name] == others[name]).all() for name in arrays)
    assert b"trained_on" not in plain.read_bytes()


@pytest.mark.parametrize("wing", wings.NAMES)
def test_a_wing_saves_what_it_is_told_was_trained_on(wing, tmp_path):
    caps = wings.load(wing)
    net = caps.CapsuleNetwork(fakes.SPEC)
    caps.weights.save(net, tmp_path / "net.safetensors", fingerprint(NAMED))
    assert weights.trained_on(tmp_path / "net.safetensors") == fingerprint(NAMED)


def test_a_fingerprint_is_plain_and_tells_splits_apart():
    told = json.loads(json.dumps(to_dict(fingerprint(NAMED))))
    assert set(told) == {field.name for field in dataclasses.fields(TrainedOn)}
    one = fingerprint(NAMED).train
    assert changed(one, one, "training") == changed(one, None, "training") == ""
    many = dataclasses.replace(NAMED, class_names=tuple(f"c{n}" for n in range(9)))
    says = renamed(fingerprint(NAMED), fingerprint(many))
    assert says.startswith("0: 'ant' then, 'c0' now; ")
    assert "3 classes then, 9 now" in says
    assert renamed(TrainedOn(), fingerprint(NAMED)) == ""


def test_an_entry_says_what_its_data_set_is():
    digits = fingerprint(data.load("mnist-mini"))
    assert digits.fit == "digit"
    assert dataclasses.replace(digits, train=None, test=None) == registry.described("mnist-mini")
    for name, frame in (("cifar10", (32, 32)), ("smallnorb", (48, 48)), ("svhn", None)):
        assert registry.described(name).frame == frame


def picture(path: Path, lying: bool) -> Path:
    pixels = np.random.default_rng(len(path.name)).integers(0, 60, (28, 28), np.uint8)
    pixels[(slice(9, 13), slice(None)) if lying else (slice(None), slice(9, 13))] = 250
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def bars(tmp_path, monkeypatch):
    """A run of the real command line on a folder of lying and standing bars."""
    monkeypatch.chdir(tmp_path)
    for n in range(10):
        picture(Path("data/lying", f"{n}.png"), True)
        picture(Path("data/standing", f"{n}.png"), False)
    (backend,) = wings.NAMES[:1]
    argv = ["--preset", "small", "--dataset", "folder", "--data-dir", "data", "--backend", backend]
    argv += ["--epochs", "1", "--batch-size", "8", "--out", "run"]
    monkeypatch.setattr("parity.cli.train._illustrate", lambda *_: None)
    assert door.main(["train", *argv]) == 0


def test_classes_keep_their_names_and_pictures_their_looks(bars, capsys):
    """Predict calls a class as it was called in training, and shows pictures as training did."""
    asked = picture(Path("asked.png"), True)
    argv = ["predict", str(asked), "--weights", "run", "--backend", wings.NAMES[0]]

    def said() -> str:
        capsys.readouterr()
        assert door.main(argv) == 0
        return capsys.readouterr().out.splitlines()[0]

    before = said()
    Path("data/lying").rename("data/z-lying")
    assert said() == before
    capsys.readouterr()
    assert door.main([*argv, "--json", "--out", "seen"]) == 0
    assert json.loads(capsys.readouterr().out)["fit"] == "whole"
    assert (np.asarray(Image.open("seen/asked-input.png")) == np.asarray(Image.open(asked))).all()

    for verb in (["evaluate", "run"], ["train", "--resume", "run", "--epochs", "2"]):
        assert door.main(verb) == 2
        error = capsys.readouterr().err
        assert "0: 'lying' then, 'standing' now" in error


def test_a_file_of_unknown_origin_is_not_taken_for_a_network_of_digits(tmp_path, capsys):
    spec = preset("small")
    file = tmp_path / "unknown.safetensors"
    weights.save(file, spec, weights.draw(spec, 0))
    argv = ["predict", str(wings.ROOT / "tests/pictures/three.png"), "--weights", str(file)]
    assert door.main([*argv, "--backend", wings.NAMES[0], "--json"]) == 0
    found = capsys.readouterr()
    assert json.loads(found.out)["fit"] == "whole"
    assert "does not say what it was trained on" in found.err
    assert door.main(["evaluate", str(file)]) == 2
    assert "name the data set with --dataset" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["again.safetensors", "again.pt", "again.msgpack"])
def test_convert_carries_it_from_file_to_file(run, tmp_path, name, capsys):
    pytest.importorskip("torch" if name.endswith("pt") else "jax" if "msgpack" in name else "numpy")
    assert door.main(["convert", str(run.path), str(tmp_path / name), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["wrote"] == str(tmp_path / name)
    back = tmp_path / "back.safetensors"
    assert door.main(["convert", str(tmp_path / name), str(back)]) == 0
    assert weights.trained_on(back) == fingerprint(NAMED)
    capsys.readouterr()
    assert door.main(["inspect", str(tmp_path / name), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["trained_on"]
    assert told["class_names"] == ["ant", "bee", "cat"]


def test_convert_and_inspect_take_the_name_of_a_network_of_the_package(tmp_path, capsys):
    copy = tmp_path / "copy.safetensors"
    assert door.main(["convert", "small-mnist", str(copy)]) == 0
    assert copy.read_bytes() == weights.pretrained_file("small-mnist").read_bytes()
    capsys.readouterr()
    assert door.main(["inspect", "small-mnist", "--json"]) == 0
    _, arrays = weights.load_pretrained("small-mnist")
    count = sum(array.size for array in arrays.values())
    assert json.loads(capsys.readouterr().out)["parameters"] == count
