"""Folders of pictures, a subfolder a class."""

import os
import sys
import unicodedata
import warnings

import numpy as np
import pytest
import wings
from PIL import Image

from parity.data import DataError, DataWarning, batches, load
from parity.data.sets import folder

pytestmark = pytest.mark.filterwarnings("ignore::parity.data.DataWarning")


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
    made = fill(tmp_path, {"a": 11, "b": 5, "c": 4, "d": 2, "e": 1})
    found = load("folder", tmp_path)
    held = [4, 9, 15, 19, 21]  # of fewer than five the last, of one none
    np.testing.assert_array_equal(found.test.images, [made[n] for n in held])
    assert found.test.labels.tolist() == [0, 0, 1, 2, 3]
    rest = [n for n in range(23) if n not in held]
    np.testing.assert_array_equal(found.train.images, [made[n] for n in rest])
    assert found.train.labels.tolist() == [0] * 9 + [1] * 4 + [2] * 3 + [3, 4]
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
    for array, message in (
        (picture(1, (5, 7, 3)), r"odd\.png is 7x5, .*000\.png is 5x7 .* one size"),
        (np.ones((7, 5), np.float32), r"odd\.tif: its pixels are F; expected grey or colour"),
        (np.full((7, 5), 65536, np.int32), r"odd\.tif: .* from 65536 to 65536; .* scale them"),
        (np.full((7, 5), -1, np.int16), r"odd\.tif: .* from -1 to -1; expected grey of 8 or 16"),
    ):
        path = tmp_path / "b" / ("odd.tif" if "tif" in message else "odd.png")
        save(path, array)
        with pytest.raises(DataError, match=message):
            load("folder", tmp_path)
        path.unlink()
    path = tmp_path / "b/odd.png"
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
    with pytest.raises(DataError, match=r"holds nothing, no folder of a class; expected .* DIR"):
        load("folder", tmp_path)
    fill(tmp_path, {"a": 1, "b": 1})
    with pytest.raises(DataError, match=r"2 pictures to train and 0 to test in .* two or more"):
        load("folder", tmp_path)


SPLITS = [  # the folders beside each other, and those that are trained and tested on
    ("train", "test"),
    ("Train", "Test"),
    ("TRAINING", "testing"),
    ("train", "val"),
    ("training", "Validation"),
    ("train", "valid"),
    ("train", "dev"),
    ("train", "test", "val"),
    ("train", "test", "Train", "extra"),
]


@pytest.mark.parametrize("names", SPLITS, ids="-".join)
def test_usual_arrangements_are_understood(names, tmp_path):
    made = {name: fill(tmp_path / name, {"a": 2, "b": 3}, 10 * n) for n, name in enumerate(names)}
    (tmp_path / "__MACOSX/train/a").mkdir(parents=True)
    (tmp_path / "train.csv").write_text("a table")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = load("folder", tmp_path)
    np.testing.assert_array_equal(found.train.images, made[names[0]])
    np.testing.assert_array_equal(found.test.images, made[names[1]])
    assert found.class_names == ("a", "b")
    said = " ".join(str(each.message) for each in told)
    assert (f"no folder test: {names[1]} is tested on" in said) == ("test" not in names[1].lower())
    for unused in names[2:]:
        assert f"{unused!r}" in said.partition("not used: ")[2]
    assert "MACOSX" not in said


MISTAKEN = {  # pictures -> what is said
    "train alone": ("train/a/0 train/b/0", "holds 'train' and no folder test; .* name .*/train$"),
    "test alone": ("Test/a/0 Test/b/0", "holds 'Test' and no folder train; .* name .*/Test$"),
    "two of a kind": ("train/a/0 valid/a/0 dev/a/0", "'dev', 'valid' could each be test; keep one"),
    "no classes": ("train/0 test/0", "no folders of classes in 'train', 'test', but 1 pictures"),
    "one level too deep": (
        "pets/a/0 pets/b/0",
        "pets: this class has no picture .* folders .'a', 'b'.; .* is .*/pets the folder to name",
    ),
    "parts one level too deep": ("pets/train/a/0 pets/test/a/0", "is .*/pets the folder to name"),
    "classes by year": ("a/2019/0 b/2019/0", "a: this class has .* DIR/CLASS, or .*, no deeper"),
    "pictures alone": ("0 1", "holds 2 pictures, no folder of a class; expected a folder of pict"),
    "one more class": (
        "train/a/0 train/b/0 train/c/0 test/a/0 test/d/0",
        "train has no 'd'; test has no 'b', 'c'; expected the same in both",
    ),
    "other letters": (
        "train/\u0430/0 train/b/0 test/a/0 test/b/0",  # a Cyrillic a
        r"train has no 'a'; test has no '\u0430' \('\\u0430'\); ",
    ),
    "a space too many": ("train/a/0 test/a /0", "train has no 'a '; test has no 'a'"),
    "many": (
        " ".join(f"train/{n:02}/0" for n in range(23)) + " test/00/0",
        "test has no '01', .*'08' and 14 more; expected",
    ),
}


@pytest.mark.parametrize("name", MISTAKEN)
def test_arrangements_that_are_not_clear_are_explained(name, tmp_path):
    paths, message = MISTAKEN[name]
    for n, path in enumerate(part for part in paths.replace("a /", "a_/").split(" ")):
        save(tmp_path / f"{path.replace('a_', 'a ')}.png", picture(n))
    with pytest.raises(DataError, match=message) as caught:
        load("folder", tmp_path)
    assert "delete" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path, {"train": 5, "car": 5})
    assert load("folder", tmp_path).class_names == ("car", "train")
    fill(tmp_path, {"val": 5})
    with pytest.raises(DataError, match="no folders of classes in 'train', 'val', but 5 pictures"):
        load("folder", tmp_path)


def test_what_is_not_used_is_told_of(tmp_path):
    fill(tmp_path, {"a": 5, "b": 5})
    for path in ("all.png", "a/more/0.png", "b/0.HEIC", "b/1.jfif", "b/notes.txt", "b/Thumbs.db"):
        save(tmp_path / "x.png", picture(1))
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / "x.png").rename(tmp_path / path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert len(load("folder", tmp_path).train) == 8
    assert sorted(
        str(each.message).removeprefix(f"{tmp_path}: not used, as ") for each in told
    ) == [
        "pictures of that kind are not read: 1 .heic, 1 .jfif",
        "they lie beside the folders of the classes: 1 pictures",
        "they lie deeper than a class: 'a/more'",
    ]


CAFE = "caf\u00e9"


def test_a_name_is_that_of_its_letters(tmp_path):
    """Composed and decomposed accents are one name, in one order wherever they come from."""
    decomposed = unicodedata.normalize("NFD", CAFE)
    for part, name in (("train", CAFE), ("test", decomposed)):
        fill(tmp_path / part, {name: 2, "cafz": 2})
    assert len({os.fsencode(path.name) for path in tmp_path.glob("*/caf*")}) == 3
    found = load("folder", tmp_path)
    assert found.class_names == ("cafz", CAFE)
    assert tuple(folder.classes(tmp_path)) == found.class_names
    assert found.train.labels.tolist() == [0, 0, 1, 1]
    fill(tmp_path / "train", {decomposed: 2})
    with pytest.raises(DataError, match=r"one name, 'cafe\\u0301' and 'caf\\xe9' .composed"):
        load("folder", tmp_path)
    assert folder.classes(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux alone")
def test_a_name_that_is_no_text_is_shown_by_its_bytes(tmp_path):
    for name in (b"caf\xe9", b"tea"):
        fill(tmp_path, {os.fsdecode(name): 5})
    found = load("folder", tmp_path)
    assert found.class_names == ("caf\\udce9", "tea")
    assert len(found.train) == 8
    "".join(found.class_names).encode("utf-8")


def test_the_command_line_prints_what_it_is_warned_of(tmp_path):
    """Through the door: names that no terminal can print, and all that is not as it seems."""
    shape = (11, 9, 3)
    accented = os.fsdecode(b"caf\xe9") if sys.platform == "linux" else CAFE
    for part in ("train", "val"):
        fill(tmp_path / "data" / part, {accented: 3, "tea": 4}, shape=shape)
    fill(tmp_path / "data/extra", {"tea": 1}, shape=shape)
    flags = ("--preset", "tiny", "--dataset", "folder", "--data-dir", tmp_path / "data")
    flags += ("--backend", wings.NAMES[0], "--epochs", "1", "--out", tmp_path / "run")
    door = wings.door("train", *flags, PYTHONIOENCODING="utf-8")
    assert door.returncode == 0, door.stderr
    told = [line for line in door.stderr.splitlines() if line.startswith("warning: ")]
    assert told == [
        f"warning: {tmp_path}/data: there is no folder test: val is tested on",
        f"warning: {tmp_path}/data: not used: 'extra'; train and val are",
    ]
    assert "DataWarning" not in door.stderr


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"a": 5, "b": 2}, []),
        ({"a": 5, "b": 1}, ["folder: no test image shows 'b': the accuracy says nothing of it"]),
        ({"a": 5}, ["folder: there is one class alone, 'a': every answer is right"]),
    ],
)
def test_a_class_that_is_never_tested_is_named(counts, said, tmp_path):
    fill(tmp_path, counts)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        load("folder", tmp_path)
    assert [str(each.message) for each in told] == said
    assert {each.category for each in told} <= {DataWarning}


@pytest.mark.parametrize("place", ["dog", "train/dog", "test/dog"])
@pytest.mark.parametrize("beside", [None, "notes.txt", ".hidden.png"])
def test_an_empty_class_is_named(place, beside, tmp_path):
    for which in ("train", "test") if "/" in place else ("",):
        fill(tmp_path / which, {"cat": 5, "dog": 5})
    for path in (tmp_path / place).iterdir():
        path.unlink()
    if beside is not None:
        (tmp_path / place / beside).write_bytes(b"text")
    holds = r"1 other files \(\.txt\)" if beside == "notes.txt" else "nothing"
    with pytest.raises(
        DataError, match=rf"{tmp_path / place}: this class has no picture \(.* it holds {holds};"
    ):
        load("folder", tmp_path)


def test_without_pillow_it_says_so(tmp_path, monkeypatch):
    fill(tmp_path, {"a": 5})
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"needs Pillow; pip install 'twincaps\[data\]'"):
        load("folder", tmp_path)
