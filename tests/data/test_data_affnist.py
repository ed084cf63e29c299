"""affNIST from a file written as its page describes it, and the like of it made from MNIST."""

import sys
import zipfile
from dataclasses import replace

import data_files
import numpy as np
import pytest
import scipy.io

from parity.data import DataError, batches, load
from parity.data.formats import idx, matlab
from parity.data.sets import affnist_like, mnist
from parity.spec import TrainingSpec

pytestmark = pytest.mark.filterwarnings("ignore::parity.data.DataWarning")

TRAINING = TrainingSpec(batch_size=7, shift=2)


def digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images like digits: 28x28, ink within the middle 20x20, and labels."""
    random = np.random.default_rng(seed)
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 4:24, 4:24] = random.integers(1, 256, (count, 20, 20))
    return images, random.integers(0, 10, count).astype(np.uint8)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with a small MNIST."""
    data_files.empty_home(tmp_path, monkeypatch)
    arrays = (*digits(31, 0), *digits(11, 1))
    contents = {n: idx.dump(array) for n, array in zip(mnist.NAMES, arrays, strict=True)}
    files = data_files.expected(contents)
    monkeypatch.setattr(mnist, "SOURCE", replace(mnist.SOURCE, files=files))
    return data_files.write(tmp_path / "own", contents)


def affine_digits() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(2)
    return random.integers(0, 256, (13, 40, 40), dtype=np.uint8), random.integers(0, 10, 13)


def write_mat(path, **changes) -> None:
    images, labels = affine_digits()
    fields = {
        "affine_matrix": np.zeros((6, 13)),
        "image": images.reshape(13, 1600).T,
        "label_int": labels.astype(np.uint8)[None],
        "label_one_of_n": np.eye(10)[labels].T,
    }
    path.parent.mkdir(exist_ok=True)
    scipy.io.savemat(path, {"affNISTdata": fields | changes}, do_compression=True)


def test_digits_are_placed_anywhere_in_training(folder):
    write_mat(folder / "affNIST/test.mat")
    split = load("affnist", folder).train
    assert split.shape == (40, 40, 1)
    originals, seen = digits(31, 0)[0], set()
    for epoch in range(60):
        for batch in batches.training(split, TRAINING, epoch):
            for image in batch.images[..., 0]:
                rows, columns = image.any(1).nonzero()[0], image.any(0).nonzero()[0]
                ink = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                assert (originals[:, 4:24, 4:24] / np.float32(255) == ink).all((1, 2)).any()
                seen.add((rows[0] - 4, columns[0] - 4))
    assert seen == {(down, right) for down in range(13) for right in range(13)}


def test_training_digits_lie_in_the_middle_where_they_are_evaluated(folder):
    write_mat(folder / "affNIST/test.mat")
    (batch,) = batches.evaluation(load("affnist", folder).train, 31)
    expected = np.pad(digits(31, 0)[0], ((0, 0), (6, 6), (6, 6))) / np.float32(255)
    np.testing.assert_array_equal(batch.images[..., 0], expected)


@pytest.mark.parametrize("place", ["", "affnist", "affNIST", "affNIST/transformed"])
@pytest.mark.parametrize("packed", [True, False])
def test_the_test_file_is_read(place, packed, folder):
    path = folder / place / "test.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mat(path)
    if packed:
        with zipfile.ZipFile(f"{path}.zip", "w") as archive:
            archive.write(path, "test.mat")
        path.unlink()
    found = load("affnist", folder)
    images, labels = affine_digits()
    assert (found.name, found.classes) == ("affnist", 10)
    np.testing.assert_array_equal(found.test.images[..., 0], images)
    assert found.test.labels.tolist() == labels.tolist()
    (batch,) = batches.evaluation(found.test, 13)
    np.testing.assert_array_equal(batch.images[..., 0], images / np.float32(255))


def test_broken_test_files_are_refused(folder):
    path = folder / "test.mat"
    for changes, message in (
        ({"image": np.zeros((1599, 13), np.uint8)}, r"image has shape \(1599, 13\)"),
        ({"label_int": np.zeros((1, 12), np.uint8)}, r"label_int have shape \(12,\)"),
        ({"label_int": np.full((1, 13), 11)}, "test label 0 is 11"),
    ):
        write_mat(path, **changes)
        with pytest.raises(DataError, match=message):
            load("affnist", folder)
    for variables in ({"other": 1}, {"affNISTdata": np.zeros(3)}, {"affNISTdata": {"image": 1}}):
        scipy.io.savemat(path, variables)
        with pytest.raises(DataError, match=r"affnist: test\.mat: expected a struct affNISTdata"):
            load("affnist", folder)
    write_mat(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"affnist: test\.mat: not a whole MATLAB file"):
        load("affnist", folder)
    path.unlink()
    (folder / "test.mat.zip").write_bytes(b"PK\3\4")
    with pytest.raises(DataError, match=r"test\.mat\.zip: not a whole \.zip"):
        load("affnist", folder)


def test_what_is_missing_is_said(folder, monkeypatch):
    with pytest.raises(DataError, match=r"affnist: no whole copy found.*\n(.*\n)*.*test\.mat"):
        load("affnist", folder)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DataError, match=r"x: reading it needs SciPy; pip install twincaps\[data\]"):
        matlab.loads(b"", "x")


def test_points_between_pixels_are_mixed_and_outside_is_0():
    images = np.array([[[10, 20, 30], [50, 70, 90]], [[200, 0, 0], [0, 0, 0]]], np.uint8)
    points = np.array(
        [(0, 0), (1, 2), (0.5, 0), (0, 1.25), (0.5, 0.5), (-0.5, 0), (1.75, 2), (9, 9), (-3, 1)]
    )
    found = affnist_like.bilinear(images, np.stack([points, points]))
    np.testing.assert_allclose(found[0], [10, 90, 30, 22.5, 37.5, 5, 22.5, 0, 0])
    np.testing.assert_allclose(found[1], [200, 0, 100, 0, 50, 100, 0, 0, 0])


def test_maps_are_rotations_shears_and_scales_in_their_ranges():
    maps = affnist_like.linear_maps(np.random.default_rng(0), 5003)
    angle = np.arctan2(-maps[:, 0, 1], maps[:, 1, 1])
    turn_back = np.stack([np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)], 1)
    rest = turn_back.reshape(-1, 2, 2) @ maps  # shear * scale
    assert np.abs(rest[:, 0, 1]).max() < 1e-12
    for found, (low, high) in (
        (np.degrees(angle), (-20, 20)),
        (rest[:, 0, 0], (0.8, 1.2)),
        (rest[:, 1, 1], (0.8, 1.2)),
        (rest[:, 1, 0] / rest[:, 0, 0], (-0.2, 0.2)),
    ):
        edge = (high - low) / 500
        assert low - 1e-12 < found.min() < low + edge
        assert high - edge < found.max() < high + 1e-12
        assert abs(found.mean() - (low + high) / 2) < 5 * edge


def test_a_quarter_turn_and_a_move_are_exact():
    """By hand: (down, right) -> (-right, down) turns left; then all ink is moved to a corner."""
    images = np.zeros((2, 28, 28), np.uint8)
    images[:, 3:20, 10:21] = np.random.default_rng(3).integers(1, 256, (2, 17, 11))
    turn = np.broadcast_to(np.array([[0.0, -1], [1, 0]]), (2, 2, 2))
    made = affnist_like._mapped(images, turn, np.array([(0.0, 0.0), (1.0, 1.0)]))[..., 0]
    turned = np.rot90(images[:, 3:20, 10:21], axes=(1, 2))
    np.testing.assert_array_equal(made[0, 1:12, 1:18], turned[0])
    np.testing.assert_array_equal(made[1, 28:39, 22:39], turned[1])
    assert made.astype(int).sum() == turned.astype(int).sum()


def test_the_like_keeps_all_ink_in_the_picture_and_repeats(folder):
    found, again = load("affnist-like", folder), load("affnist-like", folder)
    assert found.train.shape == found.test.shape == affnist_like.DATASET.shape
    np.testing.assert_array_equal(found.test.images, again.test.images)
    assert found.test.labels.tolist() == digits(11, 1)[1].tolist()
    images = affnist_like.mapped(digits(501, 4)[0][..., None])
    assert images.shape == (501, 40, 40, 1)
    edge = np.ones((40, 40), bool)
    edge[1:-1, 1:-1] = False
    ink = images[..., 0].astype(float)
    assert ink[:, edge].sum() < 1e-3 * ink.sum()
    areas = np.linalg.det(affnist_like.linear_maps(np.random.default_rng(1), 501))
    ratio = ink.sum((1, 2)) / digits(501, 4)[0].sum((1, 2))
    assert 0.6 < ratio.min() < 0.75
    assert 1.3 < ratio.max() < 1.5
    assert abs(ratio.mean() - areas.mean()) < 0.03
    centres = (ink.sum(2) * np.arange(40)).sum(1) / ink.sum((1, 2))
    assert centres.max() - centres.min() > 14
