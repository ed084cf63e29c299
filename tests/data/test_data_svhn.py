"""SVHN from .mat files written as its page describes them."""

from dataclasses import replace

import data_files
import numpy as np
import pytest
import scipy.io

from parity.data import DataError, batches, load
from parity.data.sets import svhn

pytestmark = pytest.mark.filterwarnings("ignore::parity.data.DataWarning")

COUNTS = {svhn.TRAIN: 13, svhn.TEST: 5}


def digits(name: str) -> dict[str, np.ndarray]:
    random = np.random.default_rng(COUNTS[name])
    images = random.integers(0, 256, (32, 32, 3, COUNTS[name]), dtype=np.uint8)
    labels = random.permutation(np.arange(COUNTS[name]) % 10 + 1).astype(np.uint8)
    return {"X": images, "y": labels[:, None]}


def write(folder, expect, **changes) -> None:
    """The two files with `changes` in the test file; `expect` takes their MD5s."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in COUNTS:
        variables = digits(name) | (changes if name == svhn.TEST else {})
        kept = {key: value for key, value in variables.items() if value is not None}
        scipy.io.savemat(folder / name, kept, do_compression=True)
    expect({name: (folder / name).read_bytes() for name in COUNTS})


@pytest.fixture
def expect(tmp_path, monkeypatch):
    data_files.empty_home(tmp_path, monkeypatch)

    def set_files(contents: dict[str, bytes]) -> None:
        files = data_files.expected(contents)
        monkeypatch.setattr(svhn, "SOURCE", replace(svhn.SOURCE, files=files))

    return set_files


@pytest.mark.parametrize("place", ["", "svhn", "SVHN"])
def test_images_and_labels(place, tmp_path, expect):
    write(tmp_path / "own" / place, expect)
    found = load("svhn", tmp_path / "own")
    assert (found.name, found.classes, found.train.shape) == ("svhn", 10, svhn.DATASET.shape)
    for split, name in ((found.train, svhn.TRAIN), (found.test, svhn.TEST)):
        stored = digits(name)
        for n in range(COUNTS[name]):
            np.testing.assert_array_equal(split.images[n], stored["X"][..., n])
        assert split.labels.tolist() == [label % 10 for label in stored["y"][:, 0].tolist()]
    assert (digits(svhn.TRAIN)["y"] == 10).any()
    assert (found.train.labels == 0).any()
    (batch,) = batches.evaluation(found.test, 5)
    np.testing.assert_array_equal(batch.images, found.test.images / np.float32(255))


BROKEN = {
    "no images": ({"X": None}, r"test_32x32\.mat: X has shape \(\)"),
    "flat images": ({"X": np.zeros((32, 32), np.uint8)}, r"X has shape \(32, 32\)"),
    "no labels": ({"y": None}, r"test_32x32\.mat: y have shape \(1,\); expected \(5,\)"),
    "too few labels": ({"y": np.ones((4, 1), np.uint8)}, r"y have shape \(4,\); expected \(5,\)"),
    "other size": ({"X": np.zeros((30, 32, 3, 5), np.uint8)}, r"test images \(30, 32, 3\)"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_with_something_else_are_refused(name, tmp_path, expect):
    changes, message = BROKEN[name]
    write(tmp_path / "own", expect, **changes)
    with pytest.raises(DataError, match=message):
        load("svhn", tmp_path / "own")


def test_altered_and_missing_files_are_refused(tmp_path, expect):
    write(tmp_path / "own", expect)
    path = tmp_path / "own" / svhn.TEST
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path}: its unpacked content has MD5"):
        load("svhn", tmp_path / "own")
    path.unlink()
    with pytest.raises(DataError, match=f"{path}: is missing"):
        load("svhn", tmp_path / "own")
