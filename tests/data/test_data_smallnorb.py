"""smallNORB from files written as its page describes them."""

import gzip
import struct
from dataclasses import replace

import data_files
import numpy as np
import pytest

from parity.data import DataError, batches, load
from parity.data.sets import smallnorb, smallnorb_64
from parity.spec import TrainingSpec

pytestmark = pytest.mark.filterwarnings("ignore::parity.data.DataWarning")

COUNTS = {smallnorb.TRAINING: 7, smallnorb.TESTING: 5}
BYTES, INTEGERS = 507333717, 507333716


def norb(magic: int, shape: tuple[int, ...], data: bytes) -> bytes:
    sizes = (*shape, 1, 1)[: max(3, len(shape))]
    return struct.pack(f"<ii{len(sizes)}i", magic, len(shape), *sizes) + data


def toys(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    pairs = random.integers(0, 256, (count, 2, 96, 96), dtype=np.uint8)
    return pairs, random.integers(0, 5, count).astype("<i4")


MADE = {which: toys(count, count) for which, count in COUNTS.items()}


def contents() -> dict[str, bytes]:
    made = {}
    for which, (pairs, labels) in MADE.items():
        made[f"{which}-dat.mat"] = norb(BYTES, pairs.shape, pairs.tobytes())
        made[f"{which}-cat.mat"] = norb(INTEGERS, labels.shape, labels.tobytes())
    return made


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    files = data_files.expected(contents())
    monkeypatch.setattr(smallnorb, "SOURCE", replace(smallnorb.SOURCE, files=files))
    return data_files.empty_home(tmp_path, monkeypatch)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("folder", ["", "smallnorb", "smallNORB", "smallnorb/raw"])
def test_pairs_become_halved_channels(packed, folder, tmp_path):
    made = contents()
    if packed:
        made = {f"{name}.gz": gzip.compress(content) for name, content in made.items()}
    data_files.write(tmp_path / folder, made)
    found = load("smallnorb", tmp_path)
    assert (found.classes, len(found.class_names)) == (5, 5)
    assert found.train.shape == found.test.shape == smallnorb.DATASET.shape == (32, 32, 2)
    for split, (pairs, labels) in zip((found.train, found.test), MADE.values(), strict=True):
        assert split.images.shape == (len(pairs), 48, 48, 2)
        assert split.labels.tolist() == labels.tolist()
        for place in ((0, 0), (17, 5), (47, 46)):
            top, left = 2 * place[0], 2 * place[1]
            means = pairs[:, :, top : top + 2, left : left + 2].mean(axis=(2, 3))
            np.testing.assert_array_equal(split.images[:, *place], np.floor(means + 0.5))


def test_pairs_may_be_brought_to_64_by_bilinear_sampling(tmp_path):
    """At the middle of each new pixel on the old ones: 0.25, 1.75, 3.25 ... of 96."""
    found = load("smallnorb-64", data_files.write(tmp_path / "own", contents()))
    assert (found.name, found.frame) == ("smallnorb-64", (64, 64))
    assert found.train.shape == found.test.shape == smallnorb_64.DATASET.shape == (48, 48, 2)
    places = (np.arange(64) + 0.5) * 1.5 - 0.5
    first, share = places.astype(int), places % 1
    for split, (pairs, labels) in zip((found.train, found.test), MADE.values(), strict=True):
        rows = pairs[:, :, first] * (1 - share)[:, None] + pairs[:, :, first + 1] * share[:, None]
        expected = rows[..., first] * (1 - share) + rows[..., first + 1] * share
        np.testing.assert_array_equal(split.images, np.floor(expected + 0.5).transpose(0, 2, 3, 1))
        assert split.labels.tolist() == labels.tolist()
    (tested,) = batches.evaluation(found.test, 5)
    middle = found.test.images[:, 8:56, 8:56] / np.float32(255)
    np.testing.assert_array_equal(tested.images, middle)


def test_windows_are_random_in_training_and_the_middle_in_evaluation(tmp_path):
    found = load("smallnorb", data_files.write(tmp_path / "own", contents()))
    (tested,) = batches.evaluation(found.test, 5)
    middle = found.test.images[:, 8:40, 8:40] / np.float32(255)
    np.testing.assert_array_equal(tested.images, middle)
    training = TrainingSpec(batch_size=7)
    first, second = (next(batches.training(found.train, training, epoch)) for epoch in (0, 1))
    assert first.images.shape == (7, 32, 32, 2)
    assert set(first.labels) == set(second.labels)
    assert first.images.tobytes() != second.images.tobytes()


def test_an_altered_copy_is_refused(tmp_path):
    path = data_files.write(tmp_path / "own", contents()) / f"{smallnorb.TESTING}-cat.mat"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(DataError, match=f"{path}: its unpacked content has MD5"):
        load("smallnorb", tmp_path / "own")
    path.unlink()
    with pytest.raises(DataError, match=f"{path}: is missing"):
        load("smallnorb", tmp_path / "own")
