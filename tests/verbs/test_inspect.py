"""`parity.convert.describe` and the verb `inspect`: what is in a file, the same in every format."""

import hashlib
import json

import foreign_networks
import numpy as np
import pytest
import wings
from foreign_networks import CASES
from specs import PRIMES, TINY
from weight_files import FORMATS, JAX, TORCH, draw, make

from parity import __main__ as door
from parity import weights
from parity.convert import LAYOUTS, convert, describe
from parity.convert.formats import read
from parity.runs import Run
from parity.runs.disk import RunWarning
from parity.spec import TrainingSpec, TwincapsError, to_dict

KINDS = {
    "canonical": "safetensors",
    "pt": "torch",
    "torch safetensors": "safetensors",
    "msgpack": "msgpack",
    "orbax": "orbax",
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_described_in_full(name, tmp_path):
    path, arrays, rows = make(tmp_path, name), draw(PRIMES), weights.table(PRIMES)
    about, stored = describe(path), read(path)
    layout = "torch" if FORMATS[name].to == "torch" else "canonical"
    assert (about["kind"], about["layout"]) == (KINDS[name], layout)
    assert about["spec"] == to_dict(PRIMES)
    assert about["sha256"] == stored.header["sha256"]
    assert about["parameters"] == sum(each.size for each in arrays.values()) == 13003
    assert about["bytes"] == sum(each.nbytes for each in arrays.values())
    assert [each["name"] for each in about["tensors"]] == list(rows)
    for each in about["tensors"]:
        array, axes = arrays[each["name"]], rows[each["name"]].axes
        there = weights.transpose(array, axes, each["axes"])
        assert each["shape"] == list(there.shape) == list(stored.tensors[each["name"]].shape)
        assert each["dtype"] == str(array.dtype)


def test_a_tensor_has_the_same_checksum_in_every_format(tmp_path):
    sums = {}
    for name in FORMATS:
        (tmp_path / name).mkdir()
        tensors = describe(make(tmp_path / name, name))["tensors"]
        sums[name] = {each["name"]: each["sha256"] for each in tensors}
    assert all(each == sums["canonical"] for each in sums.values())
    assert len(set(sums["canonical"].values())) == len(weights.table(PRIMES))


def test_the_sha256_of_a_file_is_that_of_its_bytes(tmp_path):
    path = make(tmp_path, "canonical")
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert describe(path)["file_sha256"] == expected


@pytest.mark.parametrize("name", CASES)
def test_a_foreign_file_is_described_by_the_layouts_it_fits(name, tmp_path):
    file = foreign_networks.write(tmp_path / "them", foreign_networks.draw(name))
    about = describe(file)
    fitting = [each for each in LAYOUTS if LAYOUTS[each].tensors == LAYOUTS[name].tensors]
    assert set(fitting) <= set(about["layouts"])
    assert about["sha256"] is None
    assert "spec" not in about
    axes = {each["name"]: each["axes"] for each in about["tensors"]}
    if about["layouts"] != [name]:
        assert set(axes.values()) == {None}
        return
    for each in about["tensors"]:
        named = axes[each["name"]].replace("(j d)", "jd").split()
        assert len(named) == len(each["shape"])
    if name == "gram-ai":
        assert axes["digit_capsules.route_weights"] == "j i k d"
        assert axes["primary_capsules.capsules.1.weight"] == "type in kh kw"


@TORCH
def test_a_bare_state_dict_of_ours_is_known_by_its_names(tmp_path):
    wing = wings.load("torch")
    wing.weights.torch.save(wing.CapsuleNetwork(TINY).state_dict(), tmp_path / "bare.pt")
    about = describe(tmp_path / "bare.pt")
    assert about["layouts"] == ["torch"]
    (kernel,) = [each for each in about["tensors"] if each["name"] == "primary.kernel"]
    assert (kernel["axes"], kernel["shape"]) == ("out in kh kw", [2, 1, 2, 2])


def test_bare_safetensors_of_our_names_may_be_in_either_wings_axes(tmp_path):
    import safetensors.numpy

    safetensors.numpy.save_file(draw(TINY), tmp_path / "bare.safetensors")
    about = describe(tmp_path / "bare.safetensors")
    assert about["layouts"] == ["torch", "canonical"]
    assert {each["axes"] for each in about["tensors"]} == {None}


def test_names_of_something_else_are_shown_all_the_same(tmp_path):
    np.savez(tmp_path / "them.npz", **{"fc.weight": np.ones((2, 3)), "step": np.array(4)})
    about = describe(tmp_path / "them.npz")
    assert about["layouts"] == []
    assert [each["shape"] for each in about["tensors"]] == [[2, 3], []]


@pytest.fixture
def run(tmp_path):
    with Run.create(tmp_path / "run", TINY, TrainingSpec(optimizer="sgd"), preset="small") as run:
        for step, accuracy in ((10, 0.75), (20, None), (30, 0.5)):
            arrays = draw(TINY, ("float32",), step)
            slots = {f"sgd.momentum/{name}": array for name, array in arrays.items()}
            state = {"step": step, "weights": arrays, "optimizer": slots}
            run.save(state, epoch=step // 10, cursor=0, accuracy=accuracy, best=0.75)
    return tmp_path / "run"


def test_a_run_is_described_with_all_its_checkpoints(run):
    about = describe(run)
    assert (about["kind"], about["preset"]) == ("run", "small")
    assert about["spec"] == to_dict(TINY)
    assert about["training"]["optimizer"] == "sgd"
    assert [each["step"] for each in about["checkpoints"]] == [10, 20, 30]
    assert [each["accuracy"] for each in about["checkpoints"]] == [0.75, None, 0.5]
    assert about["weights"]["path"].endswith("step-00000030/weights.safetensors")


def test_a_torn_checkpoint_is_shown_as_torn(run):
    torn = run / "checkpoints" / "step-00000030" / "weights.safetensors"
    torn.write_bytes(torn.read_bytes()[:-1])
    with pytest.warns(RunWarning, match="step-00000030"):
        about = describe(run)
    assert [each["whole"] for each in about["checkpoints"]] == [True, True, False]
    assert "altered" in about["checkpoints"][2]["fault"]
    assert about["weights"]["path"].endswith("step-00000020/weights.safetensors")


def test_a_checkpoint_is_described_with_its_optimiser(run):
    about = describe(run / "checkpoints" / "step-00000010")
    assert about["state"]["step"] == 10
    assert about["weights"]["spec"] == to_dict(TINY)
    assert about["optimizer"]["format"] == "twincaps-optimizer"
    assert {each["name"].split("/")[0] for each in about["optimizer"]["tensors"]} == {
        "sgd.momentum"
    }


@pytest.mark.parametrize("what", ["file", "run", "checkpoint"])
def test_the_command_line_shows_and_prints_json(what, run, tmp_path, capsys):
    path = {
        "file": make(tmp_path, "canonical"),
        "run": run,
        "checkpoint": run / "checkpoints" / "step-00000010",
    }[what]
    assert door.main(["inspect", str(path), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about == json.loads(json.dumps(describe(path)))
    assert door.main(["inspect", str(path)]) == 0
    shown = capsys.readouterr().out
    for said in ("digit.kernel", "i j k d", "float32", "sha256", '"classes"'):
        assert said in shown


def test_names_cannot_style_the_terminal(tmp_path, capsys):
    np.savez(tmp_path / "them.npz", **{"[red]loud[/red]": np.ones(2)})
    assert door.main(["inspect", str(tmp_path / "them.npz")]) == 0
    assert "[red]loud[/red]" in capsys.readouterr().out


@pytest.mark.parametrize("name", FORMATS)
def test_an_altered_file_is_not_described(name, tmp_path, capsys):
    path = make(tmp_path, name)
    file = max(path.rglob("*"), key=lambda each: each.stat().st_size) if path.is_dir() else path
    content = bytearray(file.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    file.write_bytes(content)
    with pytest.raises(TwincapsError):
        describe(path)
    assert door.main(["inspect", str(path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@JAX
def test_inspecting_an_orbax_folder_changes_nothing_in_it(tmp_path):
    path = make(tmp_path, "orbax")
    before = {each: each.stat().st_mtime_ns for each in path.rglob("*")}
    describe(path)
    convert(path, tmp_path / "back.safetensors")
    assert {each: each.stat().st_mtime_ns for each in path.rglob("*")} == before
