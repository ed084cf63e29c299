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


def write(folder, expect) -> None:
    """The two files; `expect` takes their MD5s."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in COUNTS:
        scipy.io.savemat(folder / name, digits(name), do_compression=True)
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
