"""The networks that come with the package: whole, small, as good as their cards say."""

import json
import re
import subprocess
import sys
import types

import numpy as np
import pytest
import wings
from specs import PRIMES
from wings import ROOT, difference

from parity import convert, data, saved, weights
from parity.cli import evaluate
from parity.loop import scoring
from parity.spec import TrainedOn, TrainingSpec, preset, to_dict
from parity.weights import WeightsError

FOLDER = ROOT / "parity/saved/pretrained"
NAMES = ["efficient-mnist", "small-fashion-mnist", "small-mnist"]


def card(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text()


def stated(name: str) -> tuple[int, str]:
    """How many of the 10,000 test images a card says are right, and its checksum."""
    right = re.search(r"\(([\d,]+) of the 10,000 test images", card(name))
    checksum = re.search(r"^\| sha256 \| `(\w{64})`", card(name), re.M)
    assert right, name
    assert checksum, name
    return int(right[1].replace(",", "")), checksum[1]


def images(count: int = 7) -> np.ndarray:
    return data.load("mnist-mini").test.images[:count].astype(np.float32) / np.float32(255)


def test_these_come_with_the_package():
    assert weights.pretrained_names() == NAMES
    held = {path.name for path in FOLDER.iterdir() if path.name != "__pycache__"}
    ends = (".safetensors", ".md")
    assert held == {*(f"{name}{end}" for name in NAMES for end in ends)}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_the_network_of_its_preset_and_card_in_few_bytes(name):
    spec, arrays = weights.load_pretrained(name)
    kind, _ = name.split("-", 1)
    assert spec == preset(kind)
    whole = {"small": (), "efficient": ("stem", "primary", "digit")}[kind]  # the rest is bfloat16
    for key, array in arrays.items():
        assert array.dtype == ("float32" if key.startswith(whole) else "bfloat16"), key
    assert (FOLDER / f"{name}.safetensors").stat().st_size < 3_600_000
    _, header = weights.read_arrays(FOLDER / f"{name}.safetensors")
    assert header["sha256"] == stated(name)[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_was_done_and_whose_data_it_was(name):
    right, _ = stated(name)
    low, high = (100 * each for each in evaluate.interval(right, 10_000))
    says = " ".join(card(name).split())
    assert f"| {right / 100:.2f} % ({right:,} of" in says
    assert f"95 % interval {low:.2f} to {high:.2f}, Wilson" in says
    kind, dataset = name.split("-", 1)
    assert f"train.py --preset {kind} --dataset {dataset} --data-dir DIR --epochs" in says
    for word in ("seed 0", "torch 2.", "images/s", "MIT", "(c) "):
        assert word in says


@pytest.mark.parametrize("name", NAMES)
def test_a_wing_loads_the_stored_numbers_as_they_are(wing, name):
    net = wing.load_pretrained(name)
    assert wing.load_pretrained is wing.weights.load_pretrained
    assert (net.spec, net.precision) == (preset(name.split("-")[0]), "float32")
    _, stored = weights.load_pretrained(name)
    for key, array in wing.weights.to_numpy(net).items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, stored[key].astype(np.float32))


@pytest.mark.slow
def test_a_wing_loads_in_bfloat16_too(wing):
    net = wing.load_pretrained("small-mnist", precision="bfloat16")
    assert net.precision == "bfloat16"
    expected = wing.load_pretrained("small-mnist").predict(images(53))
    assert (wings.numpy(net.predict(images(53))) == wings.numpy(expected)).mean() > 0.9


def test_an_unknown_name_is_told_the_known_ones(wing):
    for name in ("large-mnist", "small-mnist.safetensors", "../small-mnist", ""):
        with pytest.raises(WeightsError) as caught:
            wing.load_pretrained(name)
        assert str(caught.value) == (
            f"no network {name!r} comes with twincaps; expected one of {', '.join(NAMES)}"
        )


@wings.jax_slow
def test_a_wing_reads_the_digits_that_come_with_the_package(wing):
    test = data.load("mnist-mini").test
    net = wing.load_pretrained("small-mnist")
    found = wings.numpy(net.predict(test.images.astype(np.float32) / np.float32(255)))
    assert (found == test.labels).mean() > 0.985


@pytest.mark.parametrize("name", wings.wide(NAMES, "small-mnist".__eq__))
@pytest.mark.slow
def test_both_wings_see_the_same(both_wings, name):
    nets = [wing.load_pretrained(name) for wing in both_wings]
    poses = [wings.numpy(net(images())) for net in nets]
    assert difference(*poses) < 1e-5
    # Both draw the same poses: a trained decoder makes 2e-5 of the rounding of its own, 1.4e-6.
    labels = wings.numpy(nets[0].predict(images())).astype(np.int32)
    drawn = [
        wings.numpy(net.reconstruct(wings.array(wing, poses[0]), wings.array(wing, labels)))
        for wing, net in zip(both_wings, nets, strict=True)
    ]
    assert difference(*drawn) < 1e-6


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", NAMES)
def test_a_network_scores_what_its_card_says(wing, name):
    spec, arrays = weights.load_pretrained(name)
    trainer = wing.Trainer(spec, TrainingSpec())
    held = {key: array.astype(np.float32) for key, array in arrays.items()}
    trainer.set_state({**trainer.get_state(), "weights": held})
    found = scoring.evaluate(trainer, data.load(name.split("-", 1)[1]).test, 500)
    right = round(found["accuracy"] * found["count"])
    assert right == pytest.approx(stated(name)[0], abs=3)  # a tie may break otherwise elsewhere


@pytest.mark.parametrize("name", wings.NAMES)
def test_a_wing_loads_them_where_the_other_is_missing(name):
    other = {"torch": ["jax", "jaxlib", "flax", "optax", "jax_caps"], "jax": ["torch"]}[name]
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({other!r}))\n"
        f"import {wings.PACKAGES[name]} as caps\n"
        "print(caps.load_pretrained('small-mnist').spec.pose)"
    )
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stdout == "6\n", result.stderr


FILES = {"README.md", "config.json", "model.safetensors"}


@pytest.fixture
def folder(tmp_path):
    """A network with random weights, saved as a folder."""
    arrays = {name: array.astype(np.float32) for name, array in weights.draw(PRIMES, 3).items()}
    about = TrainedOn(dataset="stripes", class_names=tuple("abc"[: PRIMES.classes]))
    weights.save_folder(tmp_path / "mine", PRIMES, arrays, about)
    return tmp_path / "mine"


def test_a_folder_of_one_wing_is_the_same_network_in_the_other(both_wings, tmp_path):
    for one, other in (both_wings, both_wings[::-1]):
        path = tmp_path / f"by-{one.__name__}"
        net = one.build(PRIMES, seed=5)
        one.save_pretrained(net, path, TrainedOn(dataset="stripes"))
        assert {each.name for each in path.iterdir()} == FILES
        back = other.from_pretrained(path)
        assert back.spec == PRIMES
        before, after = one.weights.to_numpy(net), other.weights.to_numpy(back)
        assert before.keys() == after.keys()
        for name, array in before.items():
            np.testing.assert_array_equal(after[name], array)
    assert saved.find(str(path)).trained_on == TrainedOn(dataset="stripes")
    first, second = (tmp_path / f"by-{wing.__name__}" for wing in both_wings)
    for name in FILES - {"README.md"}:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_name_of_the_package_is_the_same_by_either_function(wing):
    ours, theirs = wing.from_pretrained("small-mnist"), wing.load_pretrained("small-mnist")
    mine, yours = wing.weights.to_numpy(ours), wing.weights.to_numpy(theirs)
    assert all((mine[name] == yours[name]).all() for name in {*mine, *yours})


def test_every_verb_takes_a_folder(folder):
    about = convert.describe(folder)
    assert about["spec"] == to_dict(PRIMES)
    assert convert.network(folder).spec == saved.find(str(folder)).spec == PRIMES


def test_a_card_is_written_with_it(folder):
    text = (folder / "README.md").read_text()
    count = sum(row.size for row in weights.draw(PRIMES, 0).values())
    assert f"| parameters | {count:,} |" in text
    assert "| trained on | stripes |" in text
    assert weights.read_arrays(folder / "model.safetensors")[1]["sha256"] in text
    assert 'caps.from_pretrained("mine")' in text


def test_a_folder_is_never_overwritten_without_force(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = weights.draw(PRIMES, 4)
    with pytest.raises(WeightsError, match=r"is there already; nothing was overwritten, .*force"):
        weights.save_folder(folder, PRIMES, other)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (folder / "notes.txt").write_text("mine")
    weights.save_folder(folder, PRIMES, other, force=True)
    _, arrays = weights.load_folder(folder)
    assert all((arrays[name] == other[name]).all() for name in other)
    assert (folder / "notes.txt").read_text() == "mine"
    assert {path.name for path in folder.parent.iterdir()} == {"mine"}


def test_weights_that_do_not_fit_leave_no_folder(tmp_path):
    with pytest.raises(WeightsError, match="names do not fit this network"):
        weights.save_folder(tmp_path / "mine", PRIMES, {})
    assert list(tmp_path.iterdir()) == []


def without(folder, name):
    (folder / name).unlink()


def foreign(folder, name):
    for path in folder.iterdir():
        path.unlink()
    (folder / name).write_bytes(b"theirs")


def other_config(folder, **fields):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **fields}))


SPOILT = {
    "torch": (lambda x: foreign(x, "pytorch_model.bin"), "pytorch_model.bin, a file of PyTorch's"),
    "flax": (lambda x: foreign(x, "flax_model.msgpack"), "flax_model.msgpack, a file of Flax's"),
    "other names": (
        lambda x: wings_file(x / "model.safetensors"),
        "holds no twincaps header, expected twincaps-weights; `python -m parity convert`",
    ),
    "no config": (lambda x: without(x, "config.json"), "expected model.safetensors and config"),
    "no weights": (lambda x: without(x, "model.safetensors"), "holds README.md, config.json; exp"),
    "empty": (lambda x: [path.unlink() for path in x.iterdir()], "is empty; expected model.safe"),
    "no JSON": (lambda x: (x / "config.json").write_text("{"), "config.json: cannot be read as"),
    "another's config": (
        lambda x: other_config(x, model_type="bert"),
        "is no description of a network of twincaps; expected model_type 'twincaps'",
    ),
    "other network": (
        lambda x: other_config(x, spec={**to_dict(PRIMES), "pose": 97}),
        "config.json is of another network than model.safetensors",
    ),
}


def wings_file(path):
    """A safetensors file with the names of another program."""
    import safetensors.numpy

    safetensors.numpy.save_file({"encoder.weight": np.ones((2, 3), np.float32)}, path)


@pytest.mark.parametrize("case", SPOILT)
def test_a_folder_of_other_files_is_refused_in_one_message(folder, case):
    spoil, says = SPOILT[case]
    spoil(folder)
    with pytest.raises(ValueError, match=re.escape(says)):
        weights.load_folder(folder)


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(WeightsError, match=r"did you mean small-mnist\?; expected one of .*small"):
        weights.load_folder("smal-mnist")
    with pytest.raises(WeightsError, match=r"no such folder, and no .* twincaps; expected one of"):
        weights.load_folder("quite/another/thing")


def test_the_hub_s_client_is_asked_for_owner_and_name(folder, monkeypatch):
    files = [path.name for path in folder.iterdir()]
    hub = types.SimpleNamespace(
        list_repo_files=lambda name: files,
        hf_hub_download=lambda name, file: str(folder / file),
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert weights.load_folder("someone/capsules")[0] == PRIMES
    files[:] = ["config.json", "pytorch_model.bin"]
    with pytest.raises(WeightsError, match=r"^someone/capsules: holds pytorch_model.bin, a file"):
        weights.load_folder("someone/capsules")
    hub.list_repo_files = lambda name: 1 / 0
    with pytest.raises(WeightsError, match=r"could not be fetched from the Hub \(division by zero"):
        weights.load_folder("someone/capsules")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsError, match=r"pip install 'twincaps\[hub\]'"):
        weights.load_folder("someone/capsules")
