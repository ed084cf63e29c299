"""The networks that come with the package: whole, small, as good as their cards say."""

import re
import subprocess
import sys

import numpy as np
import pytest
import wings
from wings import ROOT, difference

from parity import data, weights
from parity.cli import evaluate
from parity.loop import scoring
from parity.spec import TrainingSpec, preset
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


def test_a_wing_reads_the_digits_that_come_with_the_package(wing):
    test = data.load("mnist-mini").test
    net = wing.load_pretrained("small-mnist")
    found = wings.numpy(net.predict(test.images.astype(np.float32) / np.float32(255)))
    assert (found == test.labels).mean() > 0.985


@pytest.mark.parametrize("name", wings.wide(NAMES, "small-mnist".__eq__))
@pytest.mark.slow
def test_both_wings_see_the_same(both_wings, name):
    poses, drawn = [], []
    for wing in both_wings:
        net = wing.load_pretrained(name)
        found = net(images())
        poses.append(wings.numpy(found))
        drawn.append(wings.numpy(net.reconstruct(found, net.predict(images()))))
    assert difference(*poses) < 1e-5
    assert difference(*drawn) < 1e-5


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
