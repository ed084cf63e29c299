"""Data sets by name, of one's own arrays, and the one that comes with twincaps."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest
from PIL import Image

import parity.data
from parity.data import (
    DataError,
    Dataset,
    DataWarning,
    Split,
    batches,
    from_arrays,
    listing,
    locate,
    sets,
)
from parity.data.formats import packed
from parity.data.registry import Found
from parity.data.sets import affnist, mnist, mnist_mini, smallnorb
from parity.predict.fit import FITS
from parity.spec import NetworkSpec, TrainingSpec

pytestmark = pytest.mark.filterwarnings("ignore::parity.data.DataWarning")

SHIPPED = ("fashion-mnist", "mnist", "mnist-mini")
OWN = """
import numpy as np
from parity.data.registry import Entry
from parity.data.splits import Dataset, Split

def load(data_dir):
    split = Split(np.zeros((3, 5, 7, 2), np.uint8), np.arange(3))
    return Dataset("my-own", split, split, 3)

DATASET = Entry("my-own", "three black pictures", (5, 7, 2), 3, "none", "made here", load)
"""


def arrays(**changes):
    """Arguments of `from_arrays` that fit, but for `changes`."""
    random = np.random.default_rng(3)
    fitting = {
        "train_images": random.integers(0, 256, (7, 5, 3, 2), dtype=np.uint8),
        "train_labels": np.array([0, 1, 2, 3, 4, 3, 1]),
        "test_images": random.integers(0, 256, (3, 5, 3, 2), dtype=np.uint8),
        "test_labels": np.array([2, 0, 4]),
    }
    return fitting | changes


def test_the_names():
    assert set(SHIPPED) <= set(parity.data.names())
    assert parity.data.names() == sorted(parity.data.names())


@pytest.mark.parametrize("name", parity.data.names())
def test_every_entry_says_what_a_user_must_know(name):
    entry = parity.data.entry(name)
    assert entry.name == name
    for text in (entry.title, entry.licence, entry.source):
        assert len(text) > 3
        assert "\n" not in text
    assert entry.look is not None  # or the list would load it
    module = Path(sets.__path__[0]) / f"{name.replace('-', '_')}.py"
    assert module.is_file()


@pytest.mark.parametrize("name", parity.data.names())
def test_the_rest_that_a_data_set_decides_is_in_its_file(name):
    entry = parity.data.entry(name)
    assert set(entry.recipe) <= {field.name for field in dataclasses.fields(TrainingSpec)}
    TrainingSpec(**entry.recipe)
    assert entry.fit in FITS
    assert len(entry.class_names) in (0, entry.classes)


@pytest.mark.parametrize("name", ["mnst", "MNIST", "mnist_mini", "registry", "", "../mnist", "os"])
def test_unknown_names_list_the_known_ones(name):
    for attempt in (parity.data.load, parity.data.entry):
        with pytest.raises(DataError) as caught:
            attempt(name)
        assert str(caught.value).startswith(f"data set {name!r} is unknown; expected one of ")
        for known in SHIPPED:
            assert known in str(caught.value)


def test_adding_a_data_set_is_adding_a_file(tmp_path, monkeypatch):
    (tmp_path / "my_own.py").write_text(OWN)
    monkeypatch.setattr(sets, "__path__", [*sets.__path__, str(tmp_path)])
    assert "my-own" in parity.data.names()
    assert parity.data.load("my-own").train.shape == (5, 7, 2)
    monkeypatch.delitem(sys.modules, "parity.data.sets.my_own")
    monkeypatch.delattr(sets, "my_own")


def test_data_sets_are_imported_when_asked_for():
    code = (
        "import sys, parity.data\n"
        "modules = lambda: {name[12:] for name in sys.modules if name.startswith('parity.data.')}\n"
        "assert modules() == {'_fingerprint', 'affine', 'distortion', 'registry', 'sets', "
        "'splits', 'windows'}, modules()\n"
        "parity.data.load('mnist-mini')\n"
        "assert 'sets.mnist_mini' in modules() and 'sets.fashion_mnist' not in modules()\n"
        "assert not {'torch', 'jax', 'flax', 'scipy', 'PIL'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int32, ">i2", list])
def test_own_arrays(dtype):
    given = arrays()
    convert = (lambda a: a.tolist()) if dtype is list else (lambda a: a.astype(dtype))
    labels = {key: convert(given[key]) for key in ("train_labels", "test_labels")}
    made = from_arrays(**(given | labels))
    assert (made.name, made.classes) == ("arrays", 5)
    assert (len(made.train), len(made.test)) == (7, 3)
    assert made.train.shape == made.test.shape == (5, 3, 2)
    np.testing.assert_array_equal(made.train.images, given["train_images"])
    np.testing.assert_array_equal(made.test.labels, [2, 0, 4])
    assert made.train.labels.dtype == made.test.labels.dtype == np.int64


def test_own_float_arrays_and_more_classes_than_labels():
    floats = {key: arrays()[key] / np.float32(255) for key in ("train_images", "test_images")}
    made = from_arrays(**arrays(**floats), classes=11, name="mine")
    assert (made.name, made.classes) == ("mine", 11)
    (batch,) = batches.evaluation(made.test, 3)
    np.testing.assert_array_equal(batch.images, floats["test_images"])


def images(value, dtype=np.float32):
    """Training images with one odd pixel, far from the first."""
    made = np.full((7, 5, 3, 2), 0.5, dtype)
    made[4, 3, 1, 1] = value
    return made


REFUSED = {
    "grey without channels": (
        {"train_images": np.zeros((7, 5, 3), np.uint8)},
        r"train_images have shape \(7, 5, 3\); expected \[N, .*images\[\.\.\., None\]",
    ),
    "flat": ({"test_images": np.zeros((3, 30), np.uint8)}, r"test_images have shape \(3, 30\)"),
    "none": ({"train_images": np.zeros((0, 5, 3, 2), np.uint8)}, "at least one image"),
    "no pixels": ({"test_images": np.zeros((3, 0, 3, 2), np.uint8)}, "at least one image"),
    "float64": ({"train_images": images(0.5, np.float64)}, r"are float64; .*astype\(np\.float32\)"),
    "int64": ({"test_images": np.zeros((3, 5, 3, 2), int)}, r"are int64; .*astype\(np\.uint8\)"),
    "bool": (
        {"train_images": np.ones((7, 5, 3, 2), bool)},
        "train_images are bool; expected uint8",
    ),
    "text": ({"train_images": "pictures"}, r"train_images have shape \(\)"),
    "0 to 255 as floats": (
        {"train_images": images(255)},
        r"go from 0\.5 to 255\.0; .*divide by 255",
    ),
    "just above": ({"train_images": images(np.nextafter(np.float32(1), 2))}, r"0\.5 to 1\.000"),
    "normalised": ({"train_images": images(-0.42)}, r"go from -0\.4.*; .*mean and deviation"),
    "NaN": ({"train_images": images(np.nan)}, "train_images go from nan to nan"),
    "infinite": ({"train_images": images(np.inf)}, r"train_images go from 0\.5 to inf"),
    "too few labels": (
        {"train_labels": [0, 1]},
        r"train_labels have shape \(2,\); expected \(7,\)",
    ),
    "too many": ({"test_labels": [0, 1, 2, 3]}, r"test_labels have shape \(4,\); expected \(3,\)"),
    "one column": ({"test_labels": [[0], [1], [2]]}, r"shape \(3, 1\); .*labels\.reshape\(-1\)"),
    "float labels": ({"train_labels": np.zeros(7)}, r"are float64; .*astype\(np\.int64\)"),
    "bool labels": ({"test_labels": [True, False, True]}, "test_labels are bool; expected whole"),
    "negative": (
        {"train_labels": [0, 1, -1, 2, 4, 4, 4]},
        "training label 2 is -1; expected 0 to 4",
    ),
    "all negative": ({"train_labels": [-1] * 7}, "training label 0 is -1; expected 0 to 0"),
    "unseen in training": ({"test_labels": [0, 5, 1]}, "test label 1 is 5; expected 0 to 4"),
    "counted from 1": (
        {"train_labels": [1, 2, 3, 4, 5, 5, 5], "classes": 5},
        "training label 4 is 5; expected 0 to 4, .*; subtract 1 if they count from 1",
    ),
    "beyond the classes": ({"classes": 4}, "training label 4 is 4; expected 0 to 3, .* 4 classes"),
    "other height": (
        {"test_images": np.zeros((3, 3, 3, 2), np.uint8)},
        r"\(5, 3, 2\), test .*\(3, 3,",
    ),
    "other channels": ({"test_images": np.zeros((3, 5, 3, 1), np.uint8)}, r"images \(5, 3, 1\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_arrays_that_do_not_fit_are_refused(name):
    changes, message = REFUSED[name]
    with pytest.raises(DataError, match=message):
        from_arrays(**arrays(**changes))


@pytest.mark.parametrize("name", [name for name in REFUSED if name not in ("text", "one column")])
def test_splits_and_data_sets_check_as_well(name):
    changes, message = REFUSED[name]
    given = arrays(**changes)
    message = message.removeprefix("train_").removeprefix("test_")
    with pytest.raises(DataError, match=message):
        Dataset(
            "mine",
            Split(given["train_images"], np.asarray(given["train_labels"])),
            Split(given["test_images"], np.asarray(given["test_labels"])),
            given.get("classes", 5 if name != "all negative" else 1),
        )


def bits(dtype=np.uint8, white=1):
    made = np.random.default_rng(7).integers(0, 2, (7, 5, 3, 2)) * white
    return made.astype(dtype)


FULL = np.array([0, 1, 2, 3, 4, 0, 1])
DOUBTFUL = {  # what is given -> what is said of it
    "bits as bytes": (
        {"train_images": bits()},
        ["no pixel of the training images is above 1, where 255 is white: .* multiply them by 255"],
    ),
    "bits as bytes, in test alone": ({"test_images": bits()}, ["no pixel of the test images"]),
    "divided twice": (
        {"train_images": bits(np.float32, 1 / 255)},
        ["training images is above 0.003922, where 1 is white: .* multiply them by 255"],
    ),
    "black": ({"train_images": bits() * 0}, ["all training images are black: nothing can be seen"]),
    "bits as floats": ({"train_images": bits(np.float32)}, []),
    "dark": ({"train_images": bits(white=2)}, []),
    "labels from 1": (
        {"train_labels": FULL + 1, "test_labels": FULL + 1},
        ["^arrays: labels go from 1 to 5: class 0 is never trained; subtract 1"],
    ),
    "a class too many": (
        {"classes": 6},
        ["no training image shows class 5: never", "no test image shows class 5: the accuracy"],
    ),
    "never trained": (
        {"train_labels": np.where(FULL == 1, 2, FULL)},
        ["^arrays: no training image shows class 1: never trained$"],
    ),
    "never tested": (
        {"test_labels": np.where((FULL == 3) | (FULL == 0), 2, FULL)},
        ["^arrays: no test image shows class 0, class 3: the accuracy says nothing of it$"],
    ),
    "many more": (
        {"classes": 23},
        ["class 5, .* class 14 and 8 more classes: never", "no test image shows class 5"],
    ),
    "one alone": (
        {"train_labels": FULL * 0, "test_labels": FULL * 0},
        ["one class alone, class 0: every answer is right"],
    ),
    "nothing": ({}, []),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_is_surely_not_meant_is_warned_of(name):
    given = {"test_images": bits(white=255), "train_labels": FULL, "test_labels": FULL}
    changes, messages = DOUBTFUL[name]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        from_arrays(**arrays(**(given | changes)))
    said = [str(each.message) for each in told if each.category is DataWarning]
    assert len(said) == len(messages)
    for message, each in zip(messages, said, strict=True):
        assert re.search(message, each), each


def test_the_default_data_set_needs_no_files_and_no_network(monkeypatch):
    monkeypatch.setenv("TWINCAPS_OFFLINE", "1")
    mini = parity.data.load(TrainingSpec().dataset)
    assert (mini.name, mini.classes) == ("mnist-mini", 10)
    assert mini.train.images.shape == (5000, 28, 28, 1)
    assert mini.test.images.shape == (1000, 28, 28, 1)
    assert mini.train.shape == NetworkSpec().image
    assert mini.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert mini.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(mini.train.labels).min() > 400


def test_the_default_data_set_comes_with_its_licence():
    text = mnist_mini.FILE.with_name("mnist_mini_licence.txt").read_text()
    assert "Yann LeCun" in text
    assert "Attribution-Share Alike 3.0" in text


def test_an_altered_default_data_set_is_refused(tmp_path):
    path = tmp_path / "mini.npz"
    changed = packed.npz(mnist_mini.FILE, mnist_mini.KEYS)
    changed["train_images"][1234, 14, 14, 0] ^= 1
    np.savez_compressed(path, **changed)
    with pytest.raises(DataError, match=r"mini\.npz: its arrays have SHA-256 .* install"):
        mnist_mini.load(path)
    for length in (0, 100, 90_000):
        path.write_bytes(mnist_mini.FILE.read_bytes()[:length])
        with pytest.raises(DataError, match=r"mini\.npz: not a whole .npz with train_images"):
            mnist_mini.load(path)


@pytest.mark.data
def test_the_default_data_set_is_rebuilt_from_mnist(tmp_path):
    folder = Path(os.environ["TWINCAPS_DATA"])
    for name in ("a.npz", "b.npz"):
        mnist_mini.rebuild(folder, tmp_path / name)
        again = packed.npz(tmp_path / name, mnist_mini.KEYS)
        assert mnist_mini.digest(again) == mnist_mini.SHA256
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


FIRST = {"mnist": [5, 0, 4, 1, 9, 2], "fashion-mnist": [9, 0, 0, 3, 0, 2]}


@pytest.mark.data
@pytest.mark.parametrize("name", FIRST)
def test_the_real_files(name):
    found = parity.data.load(name)
    entry = parity.data.entry(name)
    assert (found.name, found.classes, found.train.shape) == (name, entry.classes, entry.shape)
    assert (len(found.train), len(found.test)) == (60_000, 10_000)
    assert entry.look is not None
    assert entry.look(None) == Found(found.place, 60_000, 10_000)
    assert found.train.labels[:6].tolist() == FIRST[name]
    assert found.train.images.mean() > 30
    training = TrainingSpec(dataset=name)
    assert batches.per_epoch(found.train, training) == 468
    assert batches.per_epoch(found.train, replace(training, batch_size=60_000)) == 1


@pytest.mark.slow
@pytest.mark.data
def test_affnist_like_from_the_real_digits():
    found = parity.data.load("affnist-like")
    assert (len(found.train), len(found.test), found.train.shape) == (60_000, 10_000, (40, 40, 1))
    ink = found.test.images[..., 0] > 0
    assert ink.any((1, 2)).all()
    rows, columns = ink.any(2), ink.any(1)
    for inked in (rows, columns):  # digits reach every edge of the picture, and all lie within it
        assert inked[:, 1].any()
        assert inked[:, 38].any()
    originals = parity.data.load("mnist").test.images
    ratio = found.test.images.sum((1, 2, 3)) / originals.sum((1, 2, 3))
    assert 0.6 < ratio.min() < 0.7
    assert 1.37 < ratio.max() < 1.46


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """A machine with no copy of anything, in an empty folder."""
    for name in ("TWINCAPS_DATA", "KERAS_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("TWINCAPS_OFFLINE", "0")
    monkeypatch.setattr(locate, "SYSTEM", tmp_path)
    return tmp_path


def test_the_list_names_every_data_set_and_where_it_was_found(nowhere, capsys):
    pictures = np.random.default_rng(5).integers(0, 256, (2, 5, 7, 3, 3), np.uint8)
    for kind, many in zip(("cat", "dog"), pictures, strict=True):
        (nowhere / kind).mkdir()
        for n, each in enumerate(many):
            Image.fromarray(each).save(nowhere / kind / f"{n}.png")
    listing.listing(data_dir=nowhere, json=True)
    rows = json.loads(capsys.readouterr().out)
    assert list(rows) == parity.data.names()
    mini = rows["mnist-mini"]
    assert (mini["train"], mini["test"], mini["place"]) == (5_000, 1_000, str(mnist_mini.FILE))
    assert (rows["mnist"]["place"], rows["mnist"]["fault"]) == (None, None)
    assert rows["smallnorb"]["shape"] == [32, 32, 2]
    own = rows["folder"]
    assert (own["shape"], own["classes"], own["train"], own["test"]) == (None, 2, 8, 2)
    assert own["place"] == str(nowhere)


def test_the_list_says_what_is_wrong_with_a_copy(nowhere, capsys):
    (nowhere / mnist.NAMES[0]).write_bytes(b"cut short")
    listing.listing(data_dir=nowhere, json=True)
    rows = json.loads(capsys.readouterr().out)
    for name in ("mnist", "multi-mnist"):
        assert rows[name]["place"] is None
        assert f"{nowhere / mnist.NAMES[0]}: holds 9 bytes" in rows[name]["fault"]


def test_a_data_set_that_lies_nowhere_is_still_here(nowhere, monkeypatch, capsys):
    made = replace(mnist_mini.load(), place=None)
    entry = replace(mnist_mini.DATASET, load=lambda data_dir: made, look=None)
    monkeypatch.setattr(mnist_mini, "DATASET", entry)
    assert listing.describe("mnist-mini")["place"] is None
    listing.listing()
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert any(line.endswith("28x28x1, found: 5,000 + 1,000 images") for line in lines)


def test_the_list_for_a_terminal_cuts_no_name_and_no_address(nowhere, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    listing.listing()
    words = capsys.readouterr().out.split()
    assert set(parity.data.names()) <= set(words)
    assert {mnist.SOURCE.url, affnist.SOURCE.url, smallnorb.SOURCE.url} <= set(words)
    assert "5,000" in words


def test_a_data_set_is_shown_on_one_line():
    dataset = fakes.dataset()
    assert repr(dataset) == (
        "Dataset(fake: train 23 of 5x7x1 float32, test 7 of 5x7x1 float32; 3 classes)"
    )
    assert repr(dataset.train) == "Split(23 of 5x7x1 float32, augmented by shift)"
    assert repr(dataset.test.batch(np.arange(2))) == "Batch(2 of 5x7x1 float32)"
