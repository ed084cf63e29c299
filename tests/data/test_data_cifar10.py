"""CIFAR-10 from files written as its page describes them, and its windows of 24x24."""

import io
import os
import pickle
import struct
import tarfile
from dataclasses import replace

import data_files
import numpy as np
import pytest

from parity.data import DataError, batches, load, locate
from parity.data.crops import Cropped
from parity.data.sets import cifar10
from parity.spec import TrainingSpec

pytestmark = pytest.mark.filterwarnings("ignore::parity.data.DataWarning")

COUNT, NAMES = 7, [file.name for file in cifar10.PICKLED]


def batch(seed: int) -> tuple[np.ndarray, list[int]]:
    """Rows of 1,024 red, then green, then blue pixels, and labels."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, 256, (COUNT, 3072), dtype=np.uint8)
    return rows, random.integers(0, 10, COUNT).tolist()


BATCHES = [batch(seed) for seed in range(6)]


def text(value: bytes) -> bytes:
    return b"U" + bytes([len(value)]) + value  # SHORT_BINSTRING: a string of Python 2


def python2(rows: np.ndarray, labels: list[int]) -> bytes:
    """A batch as the original files have it: protocol 2, as Python 2 and NumPy 1 wrote it."""
    shape = b"".join(b"J" + struct.pack("<i", size) for size in rows.shape)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + text(b"b") + b"\x87R"
        b"(K\1" + shape + b"\x86cnumpy\ndtype\n" + text(b"u1") + b"K\0K\1\x87R(K\3" + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89"
        + b"T" + struct.pack("<i", rows.nbytes) + rows.tobytes() + b"tb"
    )  # fmt: skip
    items = text(b"data") + array + text(b"labels") + b"]("
    items += b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\2}(" + items + text(b"batch_label") + text(b"testing batch") + b"u."


def binary(rows: np.ndarray, labels: list[int]) -> bytes:
    pairs = zip(labels, rows, strict=True)
    return b"".join(bytes([label]) + row.tobytes() for label, row in pairs)


def tar(contents: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in reversed(contents.items()):  # its own order is not the batches'
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    return data_files.empty_home(tmp_path, monkeypatch)


@pytest.fixture
def contents(monkeypatch) -> dict[str, dict[str, bytes]]:
    """The files of each form; the sizes and MD5s expected of the real ones are theirs."""
    made = {
        "pickled": {name: python2(*each) for name, each in zip(NAMES, BATCHES, strict=True)},
        "binary": {f"{n}.bin": binary(*each) for n, each in zip(NAMES, BATCHES, strict=True)},
    }
    binaries = tuple(locate.File(file.name, COUNT * 3073, None) for file in cifar10.BINARY)
    files = data_files.expected(made["pickled"])
    monkeypatch.setattr(cifar10, "SOURCE", replace(cifar10.SOURCE, files=files, others=(binaries,)))
    return made


def assert_whole(dataset) -> None:
    assert (dataset.name, dataset.classes) == ("cifar10", 10)
    assert dataset.class_names[3] == "cat"
    for split, some in ((dataset.train, BATCHES[:5]), (dataset.test, BATCHES[5:])):
        rows = np.concatenate([rows for rows, _ in some])
        for place in ((0, 0, 0), (2, 0, 1), (11, 7, 2), (31, 31, 0)):
            down, right, channel = place
            expected = rows[:, channel * 1024 + down * 32 + right]
            np.testing.assert_array_equal(split.images[:, down, right, channel], expected)
        assert split.labels.tolist() == [label for _, labels in some for label in labels]


PLACES = {
    "torchvision": ("pickled", "root/cifar-10-batches-py", "root"),
    "plain": ("pickled", "root", "root"),
    "binary": ("binary", "root/cifar-10-batches-bin", "root"),
    "binary, plain": ("binary", "root", "root"),
    "keras": ("pickled", "home/.keras/datasets/cifar-10-batches-py", None),
    "keras 3": (
        "pickled",
        "home/.keras/datasets/cifar-10-batches-py-target/cifar-10-batches-py",
        None,
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_every_place_and_form(place, contents, tmp_path):
    form, folder, named = PLACES[place]
    data_files.write(tmp_path / folder, contents[form])
    assert_whole(load("cifar10", named and tmp_path / named))


def test_the_archive_as_it_is_downloaded(contents, tmp_path, monkeypatch):
    data_files.write(tmp_path / "www", {cifar10.ARCHIVE: tar(contents["pickled"])})
    assert_whole(load("cifar10", tmp_path / "www"))
    url = (tmp_path / "www").as_uri() + "/"
    monkeypatch.setattr(cifar10, "SOURCE", replace(cifar10.SOURCE, url=url))
    monkeypatch.delenv("TWINCAPS_OFFLINE")
    assert_whole(load("cifar10"))
    assert (tmp_path / "home/.cache/twincaps/cifar10" / cifar10.ARCHIVE).is_file()
    monkeypatch.setenv("TWINCAPS_OFFLINE", "1")
    assert_whole(load("cifar10"))


def test_an_altered_archive_is_refused(contents, tmp_path):
    whole = tar(contents["pickled"])
    for content, message in (
        (whole[:5000], r"tar\.gz: not a whole \.tar\.gz"),
        (b"", r"tar\.gz: not a whole \.tar\.gz"),
        (tar(dict(list(contents["pickled"].items())[1:])), r"tar\.gz: holds no data_batch_1"),
        (tar(contents["pickled"] | {"test_batch": b"x"}), "test_batch: holds 1 bytes"),
    ):
        data_files.write(tmp_path / "own", {cifar10.ARCHIVE: content})
        with pytest.raises(DataError, match=message):
            load("cifar10", tmp_path / "own")


@pytest.mark.parametrize(
    ("form", "name"), [("pickled", "data_batch_3"), ("binary", "test_batch.bin")]
)
def test_a_file_cut_short_or_missing_is_named(form, name, contents, tmp_path):
    path = data_files.write(tmp_path / "own", contents[form]) / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{path}: holds \d+ bytes unpacked, expected \d+"):
        load("cifar10", tmp_path / "own")
    path.unlink()
    with pytest.raises(DataError, match=rf"{path}: is missing beside the others"):
        load("cifar10", tmp_path / "own")


def test_nothing_but_arrays_is_made_of_a_pickle(tmp_path):
    """Though the files are known by their MD5."""

    class Command:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    with pytest.raises(DataError, match=r"posix\.mkdir in a file of arrays"):
        cifar10.read("data_batch_1", pickle.dumps({b"data": Command()}, protocol=4))
    assert not (tmp_path / "made").exists()


H, W = 13, 11
SIZE = (7, 5)


def cropped() -> Cropped:
    images = np.random.default_rng(5).integers(0, 256, (31, H, W, 2), dtype=np.uint8)
    return Cropped(images, np.arange(31), SIZE)


def windows(image: np.ndarray) -> dict[bytes, tuple[int, int]]:
    places = [(top, left) for top in range(H - 6) for left in range(W - 4)]
    return {image[t : t + 7, l : l + 5].tobytes(): (t, l) for t, l in places}  # noqa: E741


def test_training_takes_random_windows_everywhere():
    split, seen = cropped(), set()
    for epoch in range(12):
        for made in batches.training(split, TrainingSpec(batch_size=7, shift=0), epoch):
            assert made.images.shape == (7, *split.shape) == (7, 7, 5, 2)
            for image, label in zip(made.images, made.labels, strict=True):
                content = (image * 255).round().astype(np.uint8).tobytes()
                seen.add(windows(split.images[label])[content])
    assert seen == {(top, left) for top in range(7) for left in range(7)}


def test_evaluation_takes_the_middle_of_test_images_alone():
    split = cropped()
    made = list(batches.evaluation(split, 9))
    images = np.concatenate([each.images for each in made])
    expected = split.images[:, 3:10, 3:8] / np.float32(255)
    np.testing.assert_array_equal(images[:31], expected)
    assert not images[31:].any()


def test_windows_start_again_where_they_were_left():
    training = TrainingSpec(batch_size=7, shift=0)
    whole = list(batches.training(cropped(), training, 3))
    for expected, found in zip(whole[2:], batches.training(cropped(), training, 3, 2), strict=True):
        assert expected.images.tobytes() == found.images.tobytes()


def test_the_shape_is_the_windows(contents, tmp_path):
    data_files.write(tmp_path, contents["binary"])
    found = load("cifar10", tmp_path)
    assert found.train.shape == found.test.shape == cifar10.DATASET.shape == (24, 24, 3)
    (made,) = batches.evaluation(found.test, COUNT)
    expected = found.test.images[:, 4:28, 4:28] / np.float32(255)
    np.testing.assert_array_equal(made.images, expected)
