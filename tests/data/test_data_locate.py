"""Copies of a data set where users keep them, whole or not, and downloads from this machine.

The files are small ones in MNIST's format; the MD5s expected of them are put in their place.
"""

import functools
import gzip
import http.server
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import data_files
import numpy as np
import pytest

from parity.data import DataError, Dataset, entry, load, locate
from parity.data.formats import idx, packed
from parity.data.sets import fashion_mnist, mnist
from parity.wing import cache

pytestmark = pytest.mark.filterwarnings("ignore::parity.data.DataWarning")

MODULES = {"mnist": mnist, "fashion-mnist": fashion_mnist}


@dataclass
class Fake:
    """A data set of MNIST's form: the content of its four files, by name."""

    name: str
    contents: dict[str, bytes]
    arrays: list[np.ndarray]

    def write(self, folder: Path, pack=bytes, end: str = "", names=mnist.NAMES) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in zip(names, self.contents.values(), strict=True):
            (folder / (name + end)).write_bytes(pack(content))
        return folder

    def write_npz(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        keys = ("x_train", "y_train", "x_test", "y_test")
        np.savez(folder / "mnist.npz", **dict(zip(keys, self.arrays, strict=True)))
        return folder

    def assert_is(self, dataset: Dataset) -> None:
        assert dataset.name == self.name
        parts = (dataset.train.images[..., 0], dataset.train.labels)
        parts += (dataset.test.images[..., 0], dataset.test.labels)
        for found, expected in zip(parts, self.arrays, strict=True):
            np.testing.assert_array_equal(found, expected)


def fake(name: str, seed: int) -> Fake:
    random, arrays = np.random.default_rng(seed), []
    for count in (13, 5):
        arrays.append(random.integers(0, 256, (count, 7, 11), dtype=np.uint8))
        arrays.append(random.integers(0, 10, count, dtype=np.uint8))
    contents = [idx.dump(array) for array in arrays]
    return Fake(name, dict(zip(mnist.NAMES, contents, strict=True)), arrays)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    return data_files.empty_home(tmp_path, monkeypatch)


@pytest.fixture
def fakes(monkeypatch) -> dict[str, Fake]:
    made = {name: fake(name, seed) for seed, name in enumerate(MODULES)}
    for name, module in MODULES.items():
        files = data_files.expected(made[name].contents)
        monkeypatch.setattr(module, "SOURCE", replace(module.SOURCE, files=files))
    return made


@pytest.fixture
def digits(fakes) -> Fake:
    return fakes["mnist"]


DOTTED = tuple(name.replace("-idx", ".idx") for name in mnist.NAMES)
LAYOUTS = {
    "plain folder": ("mnist", "", {}),
    "plain folder, gzipped": ("mnist", "", {"pack": gzip.compress, "end": ".gz"}),
    "plain folder, gzipped without the ending": ("mnist", "", {"pack": gzip.compress}),
    "plain folder, ending without gzip": ("mnist", "", {"end": ".gz"}),
    "plain folder, dotted names": ("mnist", "", {"names": DOTTED}),
    "one folder for each data set": ("mnist", "mnist", {"pack": gzip.compress, "end": ".gz"}),
    "torchvision": ("mnist", "MNIST/raw", {}),
    "torchvision, the folder itself": ("mnist", "raw", {}),
    "fashion plain": ("fashion-mnist", "", {"pack": gzip.compress, "end": ".gz"}),
    "fashion folder": ("fashion-mnist", "fashion-mnist", {"pack": gzip.compress, "end": ".gz"}),
    "fashion torchvision": ("fashion-mnist", "FashionMNIST/raw", {}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("how", ["data_dir", "TWINCAPS_DATA"])
def test_every_layout_below_a_named_folder(layout, how, fakes, tmp_path, monkeypatch):
    name, folder, form = LAYOUTS[layout]
    place = fakes[name].write(tmp_path / "own" / folder, **form)
    if how == "TWINCAPS_DATA":
        monkeypatch.setenv(how, str(tmp_path / "own"))
        fakes[name].assert_is(load(name))
        assert load(name).place == place
    else:
        assert load(name, tmp_path / "own").place == place
        fakes[name].assert_is(load(name, tmp_path / "own"))
        fakes[name].assert_is(load(name, str(tmp_path / "own")))


def test_keras_has_mnist_as_one_file(digits, home, tmp_path, monkeypatch):
    digits.write_npz(home / ".keras/datasets")
    digits.assert_is(load("mnist"))
    assert load("mnist").place == home / ".keras/datasets/mnist.npz"
    digits.assert_is(load("mnist", home / ".keras/datasets"))
    digits.write_npz(tmp_path / "keras/datasets")
    (home / ".keras/datasets/mnist.npz").unlink()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    digits.assert_is(load("mnist"))


@pytest.mark.parametrize("below", ["home/.keras/datasets", "debian", "home/.cache/twincaps"])
def test_fashion_mnist_of_keras_and_debian_and_an_earlier_download(below, fakes, tmp_path):
    fakes["fashion-mnist"].write(tmp_path / below / "fashion-mnist", gzip.compress, ".gz")
    fakes["fashion-mnist"].assert_is(load("fashion-mnist"))


def test_one_folder_may_hold_both(fakes, tmp_path):
    fakes["mnist"].write(tmp_path / "all/mnist")
    fakes["fashion-mnist"].write(tmp_path / "all/fashion-mnist", gzip.compress, ".gz")
    for name in MODULES:
        fakes[name].assert_is(load(name, tmp_path / "all"))


def test_a_tilde_is_the_home(digits, home):
    digits.write(home / "pictures")
    digits.assert_is(load("mnist", "~/pictures"))


def test_the_whole_one_of_two_copies_is_taken(digits, tmp_path):
    """As torchvision leaves them: unpacked beside packed; and a good folder beside a bad one."""
    folder = digits.write(tmp_path / "MNIST/raw")
    digits.write(folder, gzip.compress, ".gz")
    (folder / mnist.NAMES[0]).write_bytes(b"torn")
    (folder / f"{mnist.NAMES[1]}.gz").write_bytes(b"torn")
    digits.write(tmp_path / "mnist")
    (tmp_path / "mnist" / mnist.NAMES[2]).unlink()
    digits.assert_is(load("mnist", tmp_path))


def altered(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


FAULTS = {
    "empty": (lambda content: b"", "holds 0 bytes unpacked, expected 1017"),
    "cut in the header": (lambda content: content[:9], "holds 9 bytes unpacked, expected 1017"),
    "cut": (lambda content: content[:-1], "holds 1016 bytes unpacked, expected 1017"),
    "too long": (lambda content: content + b"\0", "holds more than the 1017 bytes expected"),
    "altered": (altered, r"has MD5 \w{32}, expected \w{32}"),
    "wrong magic": (lambda content: b"\1" + content[1:], r"has MD5 \w{32}, expected \w{32}"),
    "torn gzip": (lambda content: gzip.compress(content)[:500], "gzip stream in its 500 bytes"),
    "packed and altered": (lambda content: gzip.compress(altered(content)), "has MD5"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_copy_in_the_named_folder_is_an_error(fault, digits, home, tmp_path):
    change, message = FAULTS[fault]
    digits.write(home / ".cache/twincaps/mnist")  # a whole one, but not where the user said
    path = digits.write(tmp_path / "own") / mnist.NAMES[0]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(
        DataError, match=rf"(?s)the copy in .*own is not whole:\s+{path}: .*{message}"
    ):
        load("mnist", tmp_path / "own")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_copy_elsewhere_is_passed_over(fault, digits, home, tmp_path, monkeypatch):
    change, message = FAULTS[fault]
    path = digits.write(tmp_path / "own") / mnist.NAMES[0]
    path.write_bytes(change(path.read_bytes()))
    monkeypatch.setenv("TWINCAPS_DATA", str(tmp_path / "own"))
    with pytest.raises(DataError, match=rf"(?s)no whole copy found.*{path}: .*{message}"):
        load("mnist")
    digits.write(home / ".cache/twincaps/mnist")
    digits.assert_is(load("mnist"))


@pytest.mark.parametrize("missing", mnist.NAMES)
def test_a_missing_file_is_named(missing, digits, tmp_path):
    path = digits.write(tmp_path / "own") / missing
    path.unlink()
    with pytest.raises(DataError, match=f"not whole:\n  {path}: is missing beside the others"):
        load("mnist", tmp_path / "own")


def test_another_data_set_under_the_same_names_is_an_error(fakes, tmp_path):
    fakes["fashion-mnist"].write(tmp_path)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: its unpacked content has MD5"):
        load("mnist", tmp_path)


def test_a_wrong_npz_is_an_error(digits, tmp_path):
    path = digits.write_npz(tmp_path) / "mnist.npz"
    whole = path.read_bytes()
    for content in (b"", b"PK\3\4", whole[:-40], whole[:700], b"\x93NUMPY\1\0"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"{path}: not a whole \.npz with x_train"):
            load("mnist", tmp_path)
    x_train, y_train, x_test, y_test = digits.arrays
    for change, message in (
        ({"x_train": x_train ^ 1}, "train-images-idx3-ubyte: its unpacked content has MD5"),
        ({"y_test": y_test.astype(np.float32)}, "t10k-labels-idx1-ubyte: holds 28 bytes"),
        ({"y_test": np.array([None])}, "not a whole .npz .*pickle"),
    ):
        arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
        np.savez(path, **(arrays | change))
        with pytest.raises(DataError, match=message):
            load("mnist", tmp_path)
    np.savez(path, x_train=x_train)
    with pytest.raises(DataError, match=r"not a whole .npz .*y_train"):
        load("mnist", tmp_path)


@pytest.mark.parametrize("name", MODULES)
def test_nothing_found_lists_every_place_and_the_fix(name, home, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("TWINCAPS_DATA", str(tmp_path / "named"))
    with pytest.raises(DataError) as caught:
        load(name, tmp_path / "empty")
    message = str(caught.value)
    places = ("empty", "named", "home/.keras/datasets", "debian", "home/.cache/twincaps")
    for told in [str(tmp_path / place) for place in places]:
        assert f"\n  {told} (and in it " in message
    for told in (MODULES[name].SOURCE.url, *mnist.NAMES, "TWINCAPS_OFFLINE", "--data-dir"):
        assert told in message
    assert not home.exists()


def test_a_named_folder_that_is_not_there_is_an_error(digits, home, tmp_path):
    digits.write(home / ".cache/twincaps/mnist")
    (tmp_path / "file").write_bytes(b"")
    for name in ("nowhere", "file"):
        with pytest.raises(DataError, match=rf"mnist: the data folder .*{name} is no folder"):
            load("mnist", tmp_path / name)


def test_an_unreadable_file_is_reported(digits, tmp_path, monkeypatch):
    digits.write(tmp_path)
    whole = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path.name == mnist.NAMES[1]:
            raise PermissionError(13, "Permission denied")
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(DataError, match=rf"{mnist.NAMES[1]}: cannot be read \(Permission denied\)"):
        load("mnist", tmp_path)


class Quiet(http.server.SimpleHTTPRequestHandler):
    asked: list[str]

    def log_request(self, code="-", size="-"):
        self.asked.append(self.path)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def server(digits, tmp_path, monkeypatch):
    """A web server that holds the files of `digits`; yields its folder and what was asked of it."""
    folder = digits.write(tmp_path / "www", gzip.compress, ".gz")
    asked: list[str] = []
    handler = type("Handler", (Quiet,), {"asked": asked})
    served = functools.partial(handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), served) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{running.server_port}/"
        monkeypatch.setattr(mnist, "SOURCE", replace(mnist.SOURCE, url=url))
        monkeypatch.delenv("TWINCAPS_OFFLINE")
        yield folder, asked
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("cache", ["home/.cache", "elsewhere"])
def test_a_download_is_kept(cache, server, digits, tmp_path, monkeypatch, capsys):
    if cache == "elsewhere":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
    downloaded = load("mnist")
    digits.assert_is(downloaded)
    assert len(server[1]) == 4
    assert capsys.readouterr().err.count("downloading http://127.0.0.1") == 4
    kept = tmp_path / cache / "twincaps"
    assert downloaded.place == kept / "mnist"
    assert [path.name for path in kept.iterdir()] == ["mnist"]
    assert {path.name for path in (kept / "mnist").iterdir()} == set(mnist.SOURCE.remote)
    monkeypatch.setenv("TWINCAPS_OFFLINE", "1")
    digits.assert_is(load("mnist"))
    assert load("mnist").place == kept / "mnist"
    assert len(server[1]) == 4


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_download_is_refused_and_not_kept(fault, server, tmp_path):
    change, message = FAULTS[fault]
    path = server[0] / f"{mnist.NAMES[0]}.gz"
    path.write_bytes(change(gzip.decompress(path.read_bytes())))
    with pytest.raises(DataError, match=rf"(?s)what came from http://127.*{message}"):
        load("mnist")
    assert list((tmp_path / "home/.cache/twincaps").iterdir()) == []


def test_a_failing_download_stops_at_once(server, tmp_path):
    (server[0] / f"{mnist.NAMES[1]}.gz").unlink()
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz failed \(HTTP Error 404"):
        load("mnist")
    assert len([path for path in server[1] if "labels" in path]) == 1
    assert not [path for path in server[1] if "t10k" in path]
    assert list((tmp_path / "home/.cache/twincaps").iterdir()) == []


def test_a_whole_copy_is_never_downloaded_again(server, digits, tmp_path):
    digits.write(tmp_path / "own")
    digits.assert_is(load("mnist", tmp_path / "own"))
    assert server[1] == []


def test_a_broken_kept_download_is_replaced(server, digits, home):
    folder = digits.write(home / ".cache/twincaps/mnist", gzip.compress, ".gz")
    (folder / f"{mnist.NAMES[0]}.gz").write_bytes(b"torn")
    digits.assert_is(load("mnist"))
    assert len(server[1]) == 4
    digits.assert_is(load("mnist", folder))


def test_no_server_is_a_clear_error(fakes, monkeypatch):
    monkeypatch.delenv("TWINCAPS_OFFLINE")
    source = replace(mnist.SOURCE, url="http://127.0.0.1:9/")  # the discard port: nobody there
    monkeypatch.setattr(mnist, "SOURCE", source)
    with pytest.raises(DataError, match=r"(?s)looked in.*the download of http://127\.0\.0\.1:9/"):
        load("mnist")


def test_a_silent_server_is_given_up(fakes, monkeypatch):
    monkeypatch.delenv("TWINCAPS_OFFLINE")
    monkeypatch.setattr(locate, "TIMEOUT", 0.05)
    with http.server.HTTPServer(("127.0.0.1", 0), Quiet) as silent:  # listens, never answers
        url = f"http://127.0.0.1:{silent.server_port}/"
        monkeypatch.setattr(mnist, "SOURCE", replace(mnist.SOURCE, url=url))
        with pytest.raises(DataError, match=r"failed \(timed out\)"):
            load("mnist")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_looking_finds_what_loading_finds(layout, fakes, tmp_path):
    name, folder, form = LAYOUTS[layout]
    place = fakes[name].write(tmp_path / "own" / folder, **form)
    looked = entry(name).look(tmp_path / "own")
    assert (looked.place, looked.train, looked.test) == (place, 60_000, 10_000)
    assert load(name, tmp_path / "own").place == place


def test_looking_finds_an_archive(digits, tmp_path):
    digits.write_npz(tmp_path)
    assert mnist.look(tmp_path).place == tmp_path / "mnist.npz"


@pytest.mark.parametrize("fault", FAULTS)
def test_looking_sees_sizes_and_loading_the_content(fault, digits, tmp_path):
    change, message = FAULTS[fault]
    path = digits.write(tmp_path / "own") / mnist.NAMES[0]
    path.write_bytes(change(path.read_bytes()))
    if "MD5" in message:
        assert mnist.look(tmp_path / "own").place == tmp_path / "own"
    else:
        with pytest.raises(DataError, match=rf"not whole:\s+{path}: holds \d+ bytes unpacked, exp"):
            mnist.look(tmp_path / "own")
    with pytest.raises(DataError, match="is not whole"):
        load("mnist", tmp_path / "own")


def test_looking_downloads_and_reads_nothing(server, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"(?s)mnist: no copy found; looked in.*home/\.cache"):
        mnist.look(None)
    assert server[1] == []
    assert not (tmp_path / "home").exists()
    monkeypatch.setattr(packed, "read", lambda *_: pytest.fail("read"))
    assert mnist.look(server[0]).place == server[0]


HOMELESS = {  # the environment -> what is said
    "no home": ({"HOME": "~"}, "there is no home to keep a download from .* set XDG_CACHE_HOME"),
    "a home that is a file": ({"HOME": "{file}"}, "kept in .*, which cannot be written .* set XDG"),
    "a cache that is a file": (
        {"HOME": "~", "XDG_CACHE_HOME": "{file}"},
        "kept in .*file/twincaps, which cannot be written .* set XDG_CACHE_HOME to another",
    ),
    "a relative cache": ({"HOME": "~", "XDG_CACHE_HOME": "here"}, "there is no home"),
}


@pytest.mark.parametrize("name", HOMELESS)
def test_without_a_home_nothing_is_kept_and_downloads_say_what_to_set(
    name, server, digits, tmp_path, monkeypatch
):
    settings, message = HOMELESS[name]
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for key, value in settings.items():
        monkeypatch.setenv(key, value.format(file=tmp_path / "file"))
    assert cache.folder() is None
    with pytest.raises(DataError, match=rf"(?s)looked in.*{message}"):
        load("mnist")
    assert server[1] == []
    assert list((tmp_path / "here").iterdir()) == []
    digits.write(tmp_path / "own")
    digits.assert_is(load("mnist", tmp_path / "own"))


def test_a_user_that_nobody_knows_has_no_folder(home):
    with pytest.raises(DataError, match="the data folder ~nobody-of-that-name/x is no folder"):
        load("mnist", "~nobody-of-that-name/x")


@pytest.mark.parametrize("name", MODULES)
def test_downloads_are_found_again_by_name(name):
    """A download is kept under the data set's name, so that must be a folder searched for it."""
    assert MODULES[name].SOURCE.name in MODULES[name].SOURCE.folders
