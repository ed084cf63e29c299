"""What `parity.convert` refuses: each with a clear message, and the destination as it was."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import wings
from specs import PRIMES, TINY, same_bits
from weight_files import FILES, FORMATS, JAX, TORCH, draw, make

from parity import weights
from parity.convert import convert, network
from parity.spec import TwincapsError
from parity.weights import WeightsError


class Trap:
    """A pickle of this creates a file when it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def legacy_trap(folder: Path) -> bytes:
    return pickle.dumps({"conv1.weight": Trap(folder / "sprung")}, protocol=2)


def trap(folder: Path) -> bytes:
    torch = wings.load("torch").weights.torch
    torch.save({"state_dict": {"a": torch.ones(2)}, "more": Trap(folder / "sprung")}, folder / "t")
    return (folder / "t").read_bytes()


def whole_module(folder: Path) -> bytes:
    torch = wings.load("torch").weights.torch
    torch.save(torch.nn.Linear(2, 3), folder / "t")
    return (folder / "t").read_bytes()


def two_state_dicts(folder: Path) -> bytes:
    torch = wings.load("torch").weights.torch
    held = {"a": torch.ones(2)}
    torch.save({"model": held, "ema": held}, folder / "t")
    return (folder / "t").read_bytes()


def sparse(folder: Path) -> bytes:
    torch = wings.load("torch").weights.torch
    torch.save({"digit.kernel": torch.eye(3).to_sparse()}, folder / "t")
    return (folder / "t").read_bytes()


def not_arrays(folder: Path) -> bytes:
    from flax import serialization

    return serialization.msgpack_serialize({"stem": {0: {"kernel": np.ones(3), "name": "conv"}}})


def headed(folder: Path, **changes) -> bytes:
    """A canonical file whose header differs, and is signed all the same."""
    arrays = draw(PRIMES)
    weights.save(folder / "t", PRIMES, arrays)
    _, header = weights.load_arrays(folder / "t", weights.FORMAT)
    weights.save_arrays(folder / "t", arrays, {**header, **changes})
    return (folder / "t").read_bytes()


def titled(folder: Path, title: str) -> bytes:
    """A safetensors file with this for a header."""
    return safetensors.numpy.save(draw(TINY), metadata={"twincaps": title})


def misfits(folder: Path) -> bytes:
    arrays = draw(PRIMES)
    weights.save(folder / "t", PRIMES, arrays)
    _, header = weights.load_arrays(folder / "t", weights.FORMAT)
    del arrays["stem.0.bias"]
    arrays["digit.bias"] = arrays["digit.bias"].T.copy()
    arrays["primary.bias"] = arrays["primary.bias"].astype(np.int32)
    arrays["fc.weight"] = np.ones((2, 3))
    weights.save_arrays(folder / "t", arrays, header)
    return (folder / "t").read_bytes()


OTHER_AXES = {name: " ".join(reversed(r.axes.split())) for name, r in weights.table(PRIMES).items()}
REFUSED = {
    "nothing": (lambda _: b"", "of an unknown kind, it begins with b''"),
    "text": (lambda _: b"import os\n" * 9, "of an unknown kind, it begins with b'import os"),
    "noise": (lambda _: bytes(range(200, 256)), "of an unknown kind"),
    "a zip of nothing": (lambda _: b"PK\5\6" + bytes(18), "fits|do not fit|does not say"),
    "half a zip": (lambda _: b"PK\3\4" + bytes(80), r"not a whole \.pt or \.npz file"),
    "a pickle": (legacy_trap, "refused .*nothing that runs code"),
    "a pickle in a .pt": (trap, "refused .*nothing that runs code"),
    "a whole module": (whole_module, "refused .*nothing that runs code"),
    "two state_dicts": (two_state_dicts, "holds 2 dicts of tensors, under .*'model', 'ema'"),
    "sparse tensors": (sparse, "no plain array"),
    "a msgpack of more": (not_arrays, r"no array: \['stem.0.name'\]"),
    "a newer schema": (lambda f: headed(f, schema=2), "schema version 2, this twincaps reads 1"),
    "another format": (lambda f: headed(f, format="x"), "holds x, expected a network's weights"),
    "no format": (lambda f: headed(f, format=None), "holds no twincaps header"),
    "a format of no kind": (lambda f: headed(f, format=[1]), "holds .1., expected weights of"),
    "a header of no kind": (lambda f: titled(f, "[1]"), "holds no twincaps header"),
    "no axes": (lambda f: headed(f, axes=None), "does not name the axes of its tensors"),
    "other axes": (lambda f: headed(f, axes=OTHER_AXES), "has shape .*, expected"),
    "no spec": (lambda f: headed(f, spec=None), "NetworkSpec: got NoneType"),
    "misfits": (
        misfits,
        r"not this network in layout canonical; faults: 4\n"
        r"  digit.bias has shape \(5, 3\), expected \(3, 5\) \(j d\)\n"
        r"  missing stem.0.bias \(stem.0.bias\)\n"
        r"  primary.bias has dtype int32, expected one of float32, .*\n"
        r"  unexpected fc.weight \(2, 3\)$",
    ),
}
NEEDS = {
    "torch": ["a pickle", "a pickle in a .pt", "a whole module", "two state_dicts"],
    "jax": ["a msgpack of more"],
}
NEEDS["torch"].append("sparse tensors")
MISSING = {name for wing, names in NEEDS.items() if wing not in wings.NAMES for name in names}


def refuses(path: Path, match: str, **options) -> None:
    """Converting `path` fails with this message, and a destination stays as it was."""
    folder = path.parent / "out"
    folder.mkdir()
    (folder / "old.safetensors").write_bytes(b"what was there before")
    with pytest.raises(TwincapsError, match=match):
        convert(path, folder / "new.safetensors", **options)
    with pytest.raises(TwincapsError, match=match):
        convert(path, folder / "old.safetensors", force=True, **options)
    assert [each.name for each in folder.iterdir()] == ["old.safetensors"]
    assert (folder / "old.safetensors").read_bytes() == b"what was there before"
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", [name for name in REFUSED if name not in MISSING])
def test_a_bad_file_is_refused(name, tmp_path):
    content, match = REFUSED[name]
    (tmp_path / "bad").write_bytes(content(tmp_path))
    refuses(tmp_path / "bad", match)
    assert not (tmp_path / "sprung").exists()


@TORCH
def test_the_trap_would_have_sprung(tmp_path):
    pickle.loads(legacy_trap(tmp_path))
    assert (tmp_path / "sprung").exists()


def test_a_missing_file_and_a_folder_of_something_else_are_refused(tmp_path):
    refuses(tmp_path / "nothing", "no such file or folder")
    (tmp_path / "photos").mkdir()
    refuses(tmp_path / "photos", "neither a run, a checkpoint of one, nor an orbax checkpoint")


@pytest.mark.parametrize("name", FILES)
def test_an_altered_byte_never_gives_other_weights(name, tmp_path):
    path, arrays = make(tmp_path, name, TINY), draw(TINY)
    content, random = path.read_bytes(), np.random.default_rng(13)
    refused = 0
    for place in random.choice(len(content), min(len(content), 300), replace=False):
        altered = bytearray(content)
        altered[place] ^= 1 << random.integers(8)
        path.write_bytes(altered)
        try:
            found = network(path)
        except TwincapsError:
            refused += 1
            continue  # bytes that mean nothing (zip's times, padding) change nothing
        assert found.spec == TINY
        assert all(same_bits(found.arrays[name], arrays[name]) for name in arrays)
    assert refused > 50


@pytest.mark.parametrize("name", FILES)
def test_an_altered_number_is_refused(name, tmp_path):
    path = make(tmp_path, name, dtypes=("float32",))
    content, number = path.read_bytes(), draw(PRIMES, ("float32",))["digit.bias"].tobytes()
    assert content.count(number) == 1
    path.write_bytes(content.replace(number, number[:-1] + bytes([number[-1] ^ 1])))
    refuses(path, "altered|refused")


def altered(content: bytes) -> bytes:
    """With one bit of the ninth byte from the end the other way round."""
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


@JAX
def test_a_damaged_orbax_folder_is_refused(tmp_path):
    path = make(tmp_path, "orbax")
    files = [each for each in sorted(path.rglob("*")) if each.is_file()]
    assert path / "twincaps.json" in files
    for file in files:
        content = file.read_bytes()
        for damaged in (content[: len(content) // 2], altered(content)):
            file.write_bytes(damaged)
            with pytest.raises(WeightsError, match=r"altered|not what twincaps|no JSON"):
                network(path)
        file.unlink()
        with pytest.raises(TwincapsError, match=r"altered since|does not say what network"):
            network(path)
        file.write_bytes(content)
    (path / "more").touch()
    refuses(path, "altered since it was written: more")


@JAX
def test_an_orbax_folder_of_something_else_is_refused(tmp_path):
    path = make(tmp_path, "orbax")
    (path / "twincaps.json").unlink()
    assert network(path, spec=PRIMES).layout == "canonical"
    (path / "_METADATA").unlink()
    with pytest.raises(WeightsError, match="not a whole orbax checkpoint of arrays"):
        network(path, spec=PRIMES)


@pytest.mark.parametrize("name", FORMATS)
def test_a_destination_is_replaced_by_force_alone(name, tmp_path):
    path = make(tmp_path, name)
    old = network(path).arrays
    weights.save(tmp_path / "source.safetensors", PRIMES, draw(PRIMES, seed=1))
    with pytest.raises(TwincapsError, match="exists; --force replaces it"):
        convert(tmp_path / "source.safetensors", path, to=FORMATS[name].to)
    assert all(same_bits(network(path).arrays[each], old[each]) for each in old)
    convert(tmp_path / "source.safetensors", path, to=FORMATS[name].to, force=True)
    new = draw(PRIMES, seed=1)
    assert all(same_bits(network(path).arrays[each], new[each]) for each in new)
    assert {each.name for each in tmp_path.iterdir()} == {path.name, "source.safetensors"}


@pytest.mark.parametrize(
    ("name", "call"),
    [
        (name, call)
        for name in FORMATS
        for call in ("replace", "fsync", "rename")
        if call != "rename" or name == "orbax"
    ],
)
def test_a_write_that_fails_leaves_what_was_there(name, call, tmp_path, monkeypatch):
    path = make(tmp_path, name)
    old = network(path).arrays
    weights.save(tmp_path / "source.safetensors", PRIMES, draw(PRIMES, seed=1))

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(TwincapsError, match=r"written \(No space left .*nothing was changed"):
            convert(tmp_path / "source.safetensors", path, to=FORMATS[name].to, force=True)
    assert all(same_bits(network(path).arrays[each], old[each]) for each in old)
    assert {each.name for each in tmp_path.iterdir()} == {path.name, "source.safetensors"}


@pytest.mark.parametrize(
    ("dst", "options", "match"),
    [
        ("w.bin", {}, "its suffix names no format; say --to canonical, torch, flax, orbax"),
        ("w", {}, "its suffix names no format"),
        ("w.pt", {"to": "jax"}, "format 'jax' is unknown; expected one of canonical, torch"),
        ("w.pt", {"to": "canonical"}, r"--to canonical expects a suffix \.safetensors"),
        ("w.msgpack", {"to": "torch"}, r"--to torch expects a suffix \.pt, \.pth, \.safetensors"),
        ("nowhere/w.safetensors", {}, "nowhere: no such folder"),
        ("photos", {"to": "orbax", "force": True}, "neither a run"),
        ("photos.pt", {"force": True}, "a folder, and --force replaces no folder but an orbax"),
        ("file", {"to": "orbax", "force": True}, "a file, and an orbax checkpoint is a folder"),
    ],
)
def test_a_destination_that_cannot_be_is_refused(dst, options, match, tmp_path):
    weights.save(tmp_path / "w.safetensors", TINY, draw(TINY))
    for folder in ("photos", "photos.pt"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "me.jpg").touch()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TwincapsError, match=match):
        convert(tmp_path / "w.safetensors", tmp_path / dst, **options)
    assert sorted(tmp_path.rglob("*")) == before
