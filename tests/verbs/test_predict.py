"""predict: right about digits drawn by hand, the same in both wings, with either one alone."""

import dataclasses
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import specs
import wings
from PIL import Image
from wings import ROOT

import parity.__main__ as door
from parity import saved, weights
from parity.data.crops import Cropped
from parity.predict import verb
from parity.predict.fit import prepare
from parity.runs import Run
from parity.spec import NetworkSpec, RunOptions, TrainingSpec, preset

DRAWN = {"three": 3, "four": 4, "nine": 9}
FOLDER = ROOT / "tests/pictures"
FILES = [str(FOLDER / f"{name}.png") for name in DRAWN]
ALONE = wings.NAMES[0]
FRAMEWORKS = {"torch": {"torch"}, "jax": {"jax", "jaxlib", "flax", "optax"}}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder is new."""
    monkeypatch.chdir(tmp_path)


def found(capsys, *argv: object) -> dict:
    """What it says as JSON, by the first wing of this run unless others are asked."""
    chosen = () if "--backend" in argv else ("--backend", ALONE)
    assert door.main(["predict", *map(str, argv), *chosen, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *argv: object) -> str:
    assert door.main(["predict", *map(str, argv)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def colours(path: str, height: int = 61, width: int = 53, seed: int = 0) -> str:
    random = np.random.default_rng(seed)
    Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return path


def network(path: str, spec=specs.PRIMES, seed: int = 5) -> str:
    weights.save(path, spec, weights.draw(spec, seed))
    return path


def trained(path: str, spec: NetworkSpec, dataset: str, **options: str) -> weights.Arrays:
    """A run of random weights, and these."""
    held = weights.draw(spec, 7)
    state = {"step": 3, "weights": held, "optimizer": weights.first_slots(("sgd.momentum",), held)}
    training = TrainingSpec(dataset=dataset, optimizer="sgd")
    with Run.create(path, spec, training, RunOptions(**options)) as run:
        run.save(state, epoch=1, cursor=0)
    return held


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(np.float32) / 255


def test_the_drawn_digits_are_what_the_script_draws(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    draw = importlib.import_module("draw")
    assert set(draw.DIGITS) == set(DRAWN)
    sizes, papers = set(), []
    for name, drawing in draw.DIGITS.items():
        drawn = draw.draw(*drawing)
        with Image.open(FOLDER / f"{name}.png") as stored:
            stored.load()
        assert (stored.mode, stored.size) == (drawn.mode, drawn.size)
        apart = np.abs(np.asarray(stored).astype(int) - np.asarray(drawn).astype(int))
        assert apart.max() <= 2  # a Pillow of another version may round otherwise
        sizes.add(stored.size)
        papers.append(stored.getpixel((0, 0)))
    assert len(sizes) == 3
    assert [sum(paper[:3]) > 382 for paper in papers] == [True, False, False]
    assert [paper[3:] for paper in papers] == [(), (), (0,)]  # light, dark, and none at all


@wings.jax_slow
def test_a_wing_is_right_about_digits_drawn_by_hand(wing, capsys):
    name = wing.__name__.removesuffix("_caps")
    said = found(capsys, *FILES, "--backend", name)
    assert (said["weights"], said["fit"]) == ("efficient-mnist", "digit")
    assert [each["picture"] for each in said["pictures"]] == FILES
    for each, digit in zip(said["pictures"], DRAWN.values(), strict=True):
        assert list(each["answers"]) == [name]
        assert each["answers"][name]["class"] == digit
        lengths = each["answers"][name]["lengths"]
        assert int(np.argmax(lengths)) == digit
        assert lengths[digit] > 0.8
        assert sorted(lengths)[-2] < 0.3
        assert each["difference"] is None


def test_both_wings_agree_about_them(both_wings, capsys):
    for each in found(capsys, *FILES, "--backend", "both")["pictures"]:
        torch, jax = each["answers"].values()
        assert list(each["answers"]) == ["torch", "jax"]
        assert torch["class"] == jax["class"]
        assert wings.difference(torch["lengths"], jax["lengths"]) < 1e-5
        assert each["difference"] < 1e-5


@wings.jax_slow
def test_it_says_what_a_network_says_of_the_prepared_image(wing, capsys):
    name = wing.__name__.removesuffix("_caps")
    network("net.safetensors")
    files = [colours(f"{n}.png", seed=n) for n in range(3)]
    said = found(capsys, *files, "--weights", "net.safetensors", "--backend", name, "--out", "made")
    assert said["fit"] == "whole"
    net = wing.weights.load("net.safetensors")
    images = np.stack([prepare(each, (13, 11, 3), "whole") for each in files])
    poses = net(images)
    lengths, answers = wings.numpy(wing.lengths(poses)), wings.numpy(net.predict(images))
    drawn = wings.numpy(net.reconstruct(poses, net.predict(images)))
    for n, each in enumerate(said["pictures"]):
        assert each["answers"][name]["class"] == answers[n]
        assert wings.difference(each["answers"][name]["lengths"], lengths[n]) < 1e-5
        assert (each["input"], each["reconstruction"]) == (
            f"made/{n}-input.png",
            f"made/{n}-reconstruction.png",
        )
        assert np.abs(pixels(each["input"]) - images[n]).max() < 0.6 / 255
        assert np.abs(pixels(each["reconstruction"]) - drawn[n]).max() < 0.6 / 255


def test_many_pictures_are_seen_in_parts_and_as_alone(capsys, monkeypatch):
    network("net.safetensors")
    files = [colours(f"{n}.png", seed=n) for n in range(5)]
    together = found(capsys, *files, "--weights", "net.safetensors")["pictures"]
    monkeypatch.setattr(verb, "AT_ONCE", 2)
    parts = found(capsys, *files, "--weights", "net.safetensors")["pictures"]
    for a, b in zip(together, parts, strict=True):
        assert a["picture"] == b["picture"]
        lengths = [each["answers"][ALONE]["lengths"] for each in (a, b)]
        assert wings.difference(*lengths) < 1e-5


def test_what_is_written_never_replaces_what_was_asked_about(capsys):
    network("grey.safetensors", dataclasses.replace(specs.PRIMES, image=(11, 13, 1)))
    Path("a").mkdir()
    files = [colours(name) for name in ("three.png", "three-2-input.png", "a/three.png")]
    before = {name: Path(name).read_bytes() for name in files}
    said = found(capsys, *files, "--weights", "grey.safetensors", "--out", ".")
    assert {name: Path(name).read_bytes() for name in files} == before
    written = [(each["input"], each["reconstruction"]) for each in said["pictures"]]
    assert written == [
        (f"{name}-input.png", f"{name}-reconstruction.png")
        for name in ("three", "three-2-input", "three-3")
    ]
    assert pixels("three-input.png").shape == (11, 13)


def test_a_network_without_a_decoder_writes_its_input_alone(capsys):
    network("net.safetensors", dataclasses.replace(specs.PRIMES, decoder=None))
    said = found(capsys, colours("a.png"), "--weights", "net.safetensors", "--out", "made/here")
    assert said["pictures"][0]["input"] == "made/here/a-input.png"
    assert "reconstruction" not in said["pictures"][0]
    assert os.listdir("made/here") == ["a-input.png"]


def test_it_prints_a_table(both_wings, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert door.main(["predict", FILES[0], "--backend", "both", "--out", "made"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].replace("\n", "").endswith("three.png: 3")
    rows = [line.strip("│ ").split() for line in lines if line.startswith("│")]
    cells = [[cell for cell in row if cell != "│"] for row in rows]
    assert [row[0] for row in cells] == [str(n) for n in range(10)]
    assert all(len(row) == 3 and abs(float(row[1]) - float(row[2])) < 2e-4 for row in cells)
    assert float(cells[3][1]) == max(float(row[1]) for row in cells)
    assert "torch says 3, jax says 3; their capsules differ by " in lines[-2]
    assert lines[-1] == "wrote made/three-input.png, made/three-reconstruction.png"


def test_wings_that_disagree_are_both_told(capsys):
    poses = {"torch": np.eye(3, 2, dtype=np.float32), "jax": np.eye(3, 2, -1, np.float32)}
    seen = verb.Prediction(np.zeros((2, 2, 1), np.float32), poses, None)
    assert seen.answers == {"torch": (0,), "jax": (1,)}
    assert seen.difference == 1
    verb._show("a.png", seen, {}, ("ant", "bee", "cat"))
    shown = capsys.readouterr().out
    assert shown.startswith("a.png: ant or bee\n")
    assert shown.endswith("torch says ant, jax says bee; their capsules differ by 1.0e+00\n")


@wings.jax_slow
def test_both_digits_of_a_pair_are_told_and_drawn(wing, capsys):
    name = wing.__name__.removesuffix("_caps")
    spec = dataclasses.replace(specs.PRIMES, image=(29, 31, 1), classes=5)
    held = trained("run", spec, "multi-mnist")
    files = [colours(f"{n}.png", seed=n) for n in range(3)]
    said = found(capsys, *files, "--weights", "run", "--backend", name, "--out", "made")
    assert said["fit"] == "digits"
    net = wing.CapsuleNetwork(spec)
    wing.weights.from_numpy(net, held)
    images = np.stack([prepare(each, spec.image, "digits") for each in files])
    poses = net(images)
    lengths, both = wings.numpy(wing.lengths(poses)), wings.numpy(net.predict(images, count=2))
    for n, each in enumerate(said["pictures"]):
        answer = each["answers"][name]
        assert answer["class"] == lengths[n].argmax() == both[n][0]
        assert answer["classes"] == sorted(both[n])
        for label in answer["classes"]:
            drawn = wings.numpy(net.reconstruct(poses, np.full(3, label)))[n]
            path = each[f"reconstruction-{label}"]
            assert path == f"made/{n}-reconstruction-{label}.png"
            assert np.abs(pixels(path) - drawn[..., 0]).max() < 0.6 / 255
        assert set(os.listdir("made")) >= {f"{n}-input.png"}
    assert door.main(["predict", files[0], "--weights", "run", "--backend", name]) == 0
    low, high = sorted(both[0])
    assert capsys.readouterr().out.startswith(f"0.png: {low} and {high}\n")


@pytest.mark.filterwarnings("ignore:this run was made before:parity.data.DataWarning")
def test_pictures_of_ones_own_of_an_old_run_are_called_by_their_folders_of_today(capsys):
    for label in ("ant", "bee", "cat"):
        Path(f"own/{label}").mkdir(parents=True)
    spec = dataclasses.replace(specs.PRIMES, classes=3)
    trained("run", spec, "folder", data_dir="own")
    answer = found(capsys, colours("a.png"), "--weights", "run")["pictures"][0]["answers"][ALONE]
    argv = ["predict", "a.png", "--weights", "run", "--backend", ALONE]

    def called() -> list[str]:
        assert door.main(argv) == 0
        lines = capsys.readouterr().out.splitlines()
        names = [line.split()[1] for line in lines if line.startswith("│")]
        assert lines[0] == f"a.png: {names[answer['class']]}"
        return names

    assert called() == ["ant", "bee", "cat"]
    Path("own/cat").rename("cat")  # since then there are fewer, and the numbers are all there is
    assert called() == ["0", "1", "2"]


def test_a_network_of_windows_is_asked_about_the_window_it_is_scored_on(capsys):
    """Of a picture in the size of CIFAR-10's, the middle 24x24, unchanged."""
    colours("a.png", 32, 32)
    trained("run", dataclasses.replace(specs.PRIMES, image=(24, 24, 3)), "cifar10")
    found(capsys, "a.png", "--weights", "run", "--out", "seen")
    stored = np.asarray(Image.open("a.png"))
    split = Cropped(stored[None], np.zeros(1, np.int64), (24, 24))
    np.testing.assert_array_equal(pixels("seen/a-input.png"), split.batch(np.arange(1)).images[0])
    colours("large.png", 67, 131)
    window = prepare("large.png", (24, 24, 3), "whole", (32, 32))
    whole = prepare("large.png", (32, 32, 3), "whole")
    np.testing.assert_array_equal(window, whole[4:28, 4:28])


def test_clothes_are_called_by_their_names_and_fitted_as_such(capsys):
    shown = np.full((97, 97), 255, np.uint8)
    shown[10:90, 20:45] = shown[10:90, 52:77] = shown[10:30, 20:77] = 90  # two legs
    Image.fromarray(shown).save("legs.png")
    argv = ["legs.png", "--weights", "small-fashion-mnist", "--backend", ALONE]
    assert found(capsys, *argv)["fit"] == "garment"
    assert door.main(["predict", *argv]) == 0
    out = capsys.readouterr().out
    assert out.startswith("legs.png: trouser\n")
    assert "ankle boot" in out
    assert found(capsys, *argv, "--fit", "digit")["fit"] == "digit"


@pytest.mark.parametrize(
    ("dataset", "fit"), [("fashion-mnist", "garment"), ("mnist-mini", "digit")]
)
def test_a_run_says_what_it_was_trained_on(dataset, fit):
    spec = dataclasses.replace(preset("small"), decoder=None)
    held = trained("run", spec, dataset)
    known = saved.find("run")
    assert (known.spec, known.trained_on.dataset) == (spec, dataset)
    np.testing.assert_array_equal(known.arrays["digit.kernel"], held["digit.kernel"])
    assert known.trained_on.fit == fit


@pytest.mark.parametrize("installed", [(), ("torch",), ("jax",), ("torch", "jax")])
def test_the_wings_asked_are_those_installed(installed, monkeypatch):
    there = {module for wing in installed for module in FRAMEWORKS[wing]}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if name in there else None
    )
    if installed:
        assert verb.asked(None) == list(installed)
    else:
        with pytest.raises(ValueError, match=r"neither framework is installed; .*twincaps\[torch"):
            verb.asked(None)
    assert verb.asked("both") == ["torch", "jax"]
    assert verb.asked("jax") == ["jax"]


def test_jax_without_flax_is_not_installed(monkeypatch):
    lacks = {"flax"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in lacks else object()
    )
    assert verb.asked(None) == ["torch"]


HIDE = """
import importlib.machinery, sys
find = importlib.machinery.PathFinder.find_spec
def seen(name, *rest, **more):
    return None if name.split(".")[0] in {hidden!r} else find(name, *rest, **more)
importlib.machinery.PathFinder.find_spec = seen
from parity.__main__ import main
sys.exit(main({argv!r}))
"""


def alone(name: str, *argv: str) -> subprocess.CompletedProcess:
    """Run it where the other wing's framework is not installed."""
    (other,) = set(FRAMEWORKS) - {name}
    script = HIDE.format(hidden=FRAMEWORKS[other], argv=["predict", *argv])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", wings.wide(wings.NAMES, "torch".__eq__))
def test_a_wing_answers_alone(name):
    result = alone(name, *FILES, "--json")
    assert result.returncode == 0, result.stderr
    answers = [each["answers"] for each in json.loads(result.stdout)["pictures"]]
    assert [list(each) for each in answers] == [[name]] * 3
    assert [each[name]["class"] for each in answers] == list(DRAWN.values())


@pytest.mark.parametrize("name", wings.wide(wings.NAMES, "jax".__eq__))
def test_a_missing_wing_that_is_asked_for_names_its_extra(name):
    (other,) = set(FRAMEWORKS) - {name}
    result = alone(name, FILES[0], "--backend", "both")
    assert result.returncode == 2
    assert f"pip install 'twincaps[{other}]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_what_cannot_be_done_is_told_in_a_line(capsys):
    Path("words.png").write_text("words")
    Path("words.safetensors").write_text("words")
    Image.new("L", (31, 37), 255).save("blank.png")
    network("pairs.safetensors", dataclasses.replace(specs.PRIMES, image=(13, 11, 2)))
    for argv, says in (
        (["nowhere.png"], "error: nowhere.png: no such file; expected a picture"),
        ([FILES[0], "words.png"], "error: words.png: not a whole picture"),
        (["blank.png"], "error: blank.png: empty, nothing in it stands out"),
        ([], "error: no picture; expected the names of one or more"),
        ([FILES[0], "--fit", "round"], "error: fit 'round' is unknown"),
        ([FILES[0], "--weights", "large"], "error: large: no such run or file, and no network of"),
        ([FILES[0], "--weights", "words.safetensors"], "error: words.safetensors: not a whole"),
        ([FILES[0], "--weights", "pairs.safetensors"], "the network takes images of 2 channels"),
    ):
        assert says in refused(capsys, *argv)
    names = "efficient-mnist, small-fashion-mnist, small-mnist"
    said = refused(capsys, FILES[0], "--weights", "large")
    assert f"expected one of {names}, or a path" in said


def test_a_folder_that_cannot_be_written_to_is_told_of(capsys):
    Path("file").touch()
    line = refused(capsys, FILES[0], "--backend", ALONE, "--out", "file")
    assert line.startswith("error: file: could not be written to (")


def test_more_than_white_is_white(tmp_path):
    """What a decoder that ends in relu may make: 1.2 as a byte would be dark."""
    drawn = np.array([1.2, 0.5, 0.0], np.float32).reshape(1, 3, 1, 1)
    prediction = verb.Prediction(drawn[0] * 0, {"torch": np.zeros((2, 3))}, drawn)
    verb.write(tmp_path, ["a.png"], [prediction])
    seen = np.array(Image.open(tmp_path / "a-reconstruction.png"))
    assert seen.ravel().tolist() == [255, 128, 0]
