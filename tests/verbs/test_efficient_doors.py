"""Efficient-CapsNet through every verb, and what its users may get wrong: one line, exit code 2.

A training of an epoch makes the run that the verbs are tried on, in each wing.
"""

import base64
import dataclasses
import json
import shutil
from pathlib import Path

import door as tiny
import numpy as np
import pytest
import safetensors.numpy
import wings
from test_explorer import part
from test_foreign_efficient import SPEC, TOYS, drawn, write

from parity import __main__ as parity
from parity import data, reference, spec, weights
from parity.cli import train as training
from parity.predict.fit import prepare
from parity.runs import Run
from parity.saved import find
from parity.spec import Conv, Depthwise, to_dict
from parity.weights import WeightsError, draw, state

assert "tiny-efficient" in tiny.spec.PRESETS
TINY = spec.preset("tiny-efficient")
FOUR = str(wings.ROOT / "tests/pictures/four.png")
BEGIN = ("train", "--preset", "tiny-efficient", "--dataset", "tiny-stripes", "--epochs", "1")
BACKEND = ("--backend", wings.NAMES[0])


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "_illustrate", lambda *_: None)


def ask(capsys, *argv: object) -> str:
    """What a verb prints; it must succeed."""
    capsys.readouterr()
    code = parity.main([str(each) for each in argv])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


def refused(capsys, *argv: object) -> str:
    """The one line of a refusal with exit code 2, after which the folder is as it was."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    capsys.readouterr()
    assert parity.main([str(each) for each in argv]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "Traceback" not in error
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before
    return error


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Each wing's run of an epoch, made once."""
    made = {}

    def get(wing) -> Path:
        name = wing.__name__.partition("_")[0]
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name) / "run"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(training, "_illustrate", lambda *_: None)
                assert parity.main([*BEGIN, "--backend", name, "--out", str(made[name])]) == 0
        return made[name]

    return get


@wings.jax_slow
def test_a_run_is_evaluated_and_tells_its_state(wing, trained, capsys):
    run = trained(wing)
    told = json.loads(ask(capsys, "evaluate", run, "--json"))
    with Run.open(run, read_only=True) as opened:
        last = [each for each in opened.metrics() if each["event"] == "eval"][-1]
    assert (told["accuracy"], told["loss"]) == (last["accuracy"], pytest.approx(last["loss"]))
    about = json.loads(ask(capsys, "inspect", run, "--json"))
    assert "stem.0.norm.variance" in json.dumps(about)


@pytest.mark.slow
def test_every_verb_takes_a_run(wing, trained, capsys):
    run, name = trained(wing), wing.__name__.partition("_")[0]
    backend = ("--backend", name)
    (picture,) = json.loads(
        ask(capsys, "predict", FOUR, "--weights", run, *backend, "--out", "seen", "--json")
    )["pictures"]
    np.testing.assert_allclose(picture["answers"][name]["lengths"], oracle(run), rtol=1e-5)
    assert Path("seen/four-input.png").exists()
    ask(capsys, "trace", "a.safetensors", run, *backend)
    arrays = safetensors.numpy.load_file("a.safetensors")
    for row in state(TINY):
        assert f"value/{row}" in arrays
    native = "w.pt" if name == "torch" else "w.msgpack"
    ask(capsys, "convert", run, "w.safetensors")
    ask(capsys, "convert", "w.safetensors", native)
    ask(capsys, "convert", native, "again.safetensors")
    assert Path("again.safetensors").read_bytes() == Path("w.safetensors").read_bytes()
    ask(capsys, "explore", run, "--out", "page.html")
    Path("shown").write_bytes(base64.b64decode(part(Path("page.html").read_bytes(), "weights")))
    assert weights.load("shown")[0] == weights.load("w.safetensors")[0]


def oracle(run: Path) -> np.ndarray:
    """The lengths that the oracle gives the picture of a four, by a run's newest weights."""
    known = find(str(run))
    about = known.trained_on
    image = prepare(FOUR, known.spec.image, about.fit, about.frame)
    arrays = {name: array.astype(float) for name, array in known.arrays.items()}
    return reference.lengths(reference.encode(known.spec, arrays, image[None]))[0]


@pytest.mark.slow
def test_figures_of_a_run_are_drawn(wing, trained, capsys):
    pytest.importorskip("matplotlib")
    run = trained(wing)
    ask(capsys, "figures", run)
    drawn = {path.stem.rstrip("0123456789-") for path in (run / "figures").glob("*.png")}
    assert {"reconstructions", "perturbations"} <= drawn, drawn


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["onnx", "own"])
def test_a_run_is_exported(wing, trained, capsys, ending):
    run, name = trained(wing), wing.__name__.partition("_")[0]
    if ending == "onnx":
        pytest.importorskip("onnx")
    else:
        ending = {"torch": "pt2", "jax": "jax"}[name]
    ask(capsys, "export", run, f"net.{ending}")
    assert Path(f"net.{ending}").stat().st_size > 1000


@pytest.mark.slow
def test_a_run_goes_on_in_the_other_wing_with_its_state(both_wings, trained, capsys, tmp_path):
    for wing, other in zip(both_wings, reversed(both_wings), strict=True):
        run = tmp_path / f"{wing.__name__}-run"
        shutil.copytree(trained(wing), run)
        name = other.__name__.partition("_")[0]
        ask(capsys, "train", "--resume", run, "--backend", name, "--epochs", "2")
        with Run.open(run, read_only=True) as opened:
            newest = opened.newest()
        assert newest is not None
        assert newest.state.epoch == 2
        assert set(state(TINY)) <= set(newest.weights)


# What is refused.


def bare(**changes: np.ndarray | None) -> str:
    """A file of tensors by our names, without our header: rows are changed, or left out."""
    arrays = {**draw(TINY, 0), **{name.replace("__", "."): a for name, a in changes.items()}}
    kept = {name: array for name, array in arrays.items() if array is not None}
    safetensors.numpy.save_file(kept, "them.safetensors")
    return "them.safetensors"


def test_missing_and_unknown_rows_are_all_named_at_once(capsys):
    wrong = {f"stem__{n}__norm__{what}": None for n, what in ((0, "mean"), (1, "variance"))}
    extra = np.zeros(5, np.float32)
    file = bare(**wrong, stem__7__norm__mean=extra)
    error = refused(
        capsys, "convert", file, "out.pt", "--layout", "canonical", "--preset", "tiny-efficient"
    )
    for row in ("stem.0.norm.mean", "stem.1.norm.variance", "stem.7.norm.mean"):
        assert row in error, error
    arrays = {**draw(TINY, 0), "stem.7.norm.mean": extra}
    del arrays["stem.0.norm.mean"], arrays["stem.1.norm.variance"]
    with pytest.raises(WeightsError) as caught:
        weights.save("out.safetensors", TINY, arrays)
    for row in ("stem.0.norm.mean", "stem.1.norm.variance", "stem.7.norm.mean"):
        assert row in str(caught.value)
    assert not Path("out.safetensors").exists()


def test_another_variants_file_is_refused_by_convert(capsys):
    for network, kind, preset in (
        (SPEC, "efficient", "efficient-smallnorb"),
        (TOYS, "efficient", "efficient"),
    ):
        them = write(Path("them.h5"), drawn(network, kind))
        error = refused(capsys, "convert", them, "out.safetensors", "--preset", preset)
        assert "not this network" in error or "fits no" in error, error


def headed(**changes: object) -> str:
    """A signed file whose spec says something else."""
    weights.save("good.safetensors", TINY, draw(TINY, 0))
    arrays, header = weights.load_arrays("good.safetensors", weights.FORMAT)
    weights.save_arrays(
        "bad.safetensors", arrays, {**header, "spec": {**header["spec"], **changes}}
    )
    return "bad.safetensors"


SPECS = {
    "routing 'fuzzy' is unknown; expected one of dynamic, self_attention": {
        "routing": {"name": "fuzzy"}
    },
    "network 'efficient2' is unknown; expected one of sabour2017, efficient": {
        "network": "efficient2"
    },
    "unknown names ['temperature']": {"temperature": 0.5},
    "unknown names ['groups']": {"norm": {**to_dict(TINY)["norm"], "groups": 4}},
}


@pytest.mark.parametrize("message", SPECS)
def test_a_file_that_asks_for_what_is_not_known_here_is_refused(capsys, message):
    file = headed(**SPECS[message])
    for argv in (("predict", FOUR, "--weights", file, *BACKEND), ("convert", file, "out.pt")):
        assert message in refused(capsys, *argv)


TRAININGS = {
    "a kernel of 3x3 (stride 2) is larger than its input of 3x1": ("--preset", "efficient"),
    "validation is 5000 of 67 training images": ("--validation", 5000),
    "batch_size is 0": ("--batch-size", 0),
}


@pytest.mark.parametrize("message", TRAININGS)
def test_a_training_that_cannot_be_is_refused_before_anything_is_written(capsys, message):
    argv = [*BEGIN, *BACKEND, "--out", "run", *TRAININGS[message]]
    assert message in refused(capsys, *argv)


def test_one_image_at_a_place_of_its_own_has_no_variance(capsys, monkeypatch):
    """A map of one place, a batch of one image: refused before a run is made."""
    one = dataclasses.replace(
        TINY, stem=(Conv(6, 9), Conv(6, 1, 3)), primary=Depthwise(types=3, size=2, kernel=1)
    )
    card = dataclasses.replace(spec.PRESETS["tiny-efficient"], network=one)
    monkeypatch.setitem(spec.PRESETS, "one", card)
    argv = ["train", "--preset", "one", "--dataset", "tiny-stripes", *BACKEND, "--out", "run"]
    error = refused(capsys, *argv, "--batch-size", 1)
    assert "batch norm: 1 number a channel" in error
    assert "use a larger batch" in error


@pytest.mark.parametrize("pixel", [-0.25, 1.5, np.nan])
def test_pixels_outside_0_to_1_are_refused(pixel):
    images = np.full((4, *TINY.image), 0.5, np.float32)
    images[2, 1, 1, 0] = pixel
    labels = np.arange(4)
    with pytest.raises(data.DataError, match=r"0 to 1|\[0, 1\]"):
        data.from_arrays(images, labels, images, labels)
