"""Folders of pictures, a subfolder a class."""

import sys

import numpy as np
import pytest
from PIL import Image

from parity.data import DataError, batches, load


def picture(seed: int, shape: tuple[int, ...] = (7, 5, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, array: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Image.fromarray(array)
    (made if mode is None else made.convert(mode)).save(path)


def fill(folder, counts: dict[str, int], first: int = 0, shape=(7, 5, 3)) -> list[np.ndarray]:
    """That many pictures of each class, numbered from `first` on, in the order they are found."""
    made = []
    for name, count in sorted(counts.items()):
        for n in range(count):
            made.append(picture(first + len(made), shape))
            save(folder / name / f"{n:03}.png", made[-1])
    return made


def test_train_and_test_folders(tmp_path):
    train = fill(tmp_path / "train", {"dog": 2, "cat": 3, "ant": 4})
    test = fill(tmp_path / "test", {"dog": 1, "cat": 2, "ant": 1}, 50)
    found = load("folder", tmp_path)
    assert (found.name, found.classes) == ("folder", 3)
    assert found.class_names == ("ant", "cat", "dog")
    assert found.train.shape == (7, 5, 3)
    np.testing.assert_array_equal(found.train.images, train)
    np.testing.assert_array_equal(found.test.images, test)
    assert found.train.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2]
    assert found.test.labels.tolist() == [0, 1, 1, 2]
    (batch,) = batches.evaluation(found.test, 4)
    np.testing.assert_array_equal(batch.images, np.stack(test) / np.float32(255))


def test_every_fifth_of_a_class_is_for_testing(tmp_path):
    made = fill(tmp_path, {"a": 11, "b": 5, "c": 4})
    found = load("folder", tmp_path)
    held = [4, 9, 15]
    np.testing.assert_array_equal(found.test.images, [made[n] for n in held])
    assert found.test.labels.tolist() == [0, 0, 1]
    rest = [n for n in range(20) if n not in held]
    np.testing.assert_array_equal(found.train.images, [made[n] for n in rest])
    assert found.train.labels.tolist() == [0] * 9 + [1] * 4 + [2] * 4
    assert load("folder", tmp_path).train.images.tobytes() == found.train.images.tobytes()


def test_grey_pictures_have_one_channel(tmp_path):
    made = fill(tmp_path, {"a": 5}, shape=(7, 5))
    save(tmp_path / "b/0.png", picture(99, (7, 5)), "1")
    found = load("folder", tmp_path)
    assert found.train.shape == (7, 5, 1)
    np.testing.assert_array_equal(found.test.images[0, ..., 0], made[4])
    assert set(found.train.images[-1].flat) == {0, 255}


def test_grey_beside_colour_becomes_colour(tmp_path):
    made = fill(tmp_path, {"a": 4}, shape=(7, 5))
    save(tmp_path / "a/004.png", picture(98))
    save(tmp_path / "b/0.gif", picture(99, (7, 5)), "P")
    found = load("folder", tmp_path)
    assert found.train.shape == (7, 5, 3)
    for channel in range(3):
        np.testing.assert_array_equal(found.train.images[0, ..., channel], made[0])


def test_what_is_no_picture_is_passed_over(tmp_path):
    fill(tmp_path, {"a": 5})
    save(tmp_path / "a/extra.JPEG", picture(7))
    for name in ("a/notes.txt", "a/.hidden.png", "a/Thumbs.db", "readme.md"):
        (tmp_path / name).write_bytes(b"text")
    (tmp_path / ".git").mkdir()
    found = load("folder", tmp_path)
    assert (found.classes, len(found.train), len(found.test)) == (1, 5, 1)


def test_what_is_amiss_is_named(tmp_path):
    fill(tmp_path, {"a": 5})
    path = tmp_path / "b/odd.png"
    for array, message in (
        (picture(1, (5, 7, 3)), r"odd\.png is 7x5, .*000\.png is 5x7 .* one size"),
        (picture(1, (7, 5, 4)), r"odd\.png: its pixels are RGBA; .* without transparency"),
        (np.ones((7, 5), np.uint16), r"odd\.png: its pixels are I;16; expected 8-bit"),
    ):
        save(path, array)
        with pytest.raises(DataError, match=message):
            load("folder", tmp_path)
    save(path, picture(1))
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:60], whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"b/odd\.png: not a whole picture"):
            load("folder", tmp_path)


def test_folders_that_do_not_fit_are_refused(tmp_path):
    for named in (None, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=r"is no folder; name the one .* --data-dir"):
            load("folder", named)
    with pytest.raises(DataError, match=r"0 pictures to train and 0 to test in classes \[\]"):
        load("folder", tmp_path)
    fill(tmp_path, {"a": 4})
    with pytest.raises(DataError, match=r"4 pictures to train and 0 to test in .* 5 or more"):
        load("folder", tmp_path)
    fill(tmp_path / "train", {"a": 2, "b": 2})
    fill(tmp_path / "test", {"a": 2, "c": 2})
    with pytest.raises(DataError, match=r"\['a', 'b'\] in train and \['a', 'c'\] in test"):
        load("folder", tmp_path)


@pytest.mark.parametrize("place", ["dog", "train/dog", "test/dog"])
@pytest.mark.parametrize("beside", [None, "notes.txt", ".hidden.png"])
def test_an_empty_class_is_named(place, beside, tmp_path):
    for which in ("train", "test") if "/" in place else ("",):
        fill(tmp_path / which, {"cat": 5, "dog": 5})
    for path in (tmp_path / place).iterdir():
        path.unlink()
    if beside is not None:
        (tmp_path / place / beside).write_bytes(b"text")
    with pytest.raises(DataError, match=rf"{tmp_path / place}: this class has no picture \("):
        load("folder", tmp_path)


def test_without_pillow_it_says_so(tmp_path, monkeypatch):
    fill(tmp_path, {"a": 5})
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"needs Pillow; pip install twincaps\[data\]"):
        load("folder", tmp_path)
