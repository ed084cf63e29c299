"""A weights file: what it keeps, bit for bit, and all that it refuses."""

import json
import os
import re
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from specs import NETWORKS, PRIMES, TINY, network_specs, same_bits

from parity import weights
from parity.spec import SpecError, TwincapsError
from parity.weights import WeightsError, draw, load, save, table

DTYPES = ("float32", "float64", "bfloat16", "float16")


def random_arrays(spec, dtype="float32", seed=0):
    """Random values in every tensor, biases too."""
    numbers = np.random.default_rng(seed)
    return {
        name: numbers.standard_normal(row.shape).astype(np.dtype(dtype))
        for name, row in table(spec).items()
    }


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_bit_for_bit(tmp_path, dtype):
    arrays = random_arrays(PRIMES, dtype)
    special = arrays["digit.bias"].reshape(-1)
    special[:4] = [np.nan, np.inf, -0.0, ml_dtypes.finfo(arrays["digit.bias"].dtype).tiny]
    save(tmp_path / "w.safetensors", PRIMES, arrays)
    spec, back = load(tmp_path / "w.safetensors")
    assert spec == PRIMES
    assert list(back) == list(table(PRIMES))
    assert all(same_bits(back[name], arrays[name]) for name in arrays)


def test_views_and_transposes_are_saved_by_value(tmp_path):
    arrays = random_arrays(PRIMES)
    views = {name: np.asfortranarray(array) for name, array in arrays.items()}
    views["stem.0.bias"] = np.repeat(arrays["stem.0.bias"], 2)[::2]
    save(tmp_path / "w.safetensors", PRIMES, views)
    back = load(tmp_path / "w.safetensors")[1]
    assert all(same_bits(back[name], arrays[name]) for name in arrays)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_the_table_comes_back(tmp_path, name):
    """With a random value in each parameter, those that its routing owns too."""
    arrays = random_arrays(NETWORKS[name])
    save(tmp_path / "w.safetensors", NETWORKS[name], arrays)
    spec, back = load(tmp_path / "w.safetensors")
    assert spec == NETWORKS[name]
    assert list(back) == list(arrays)
    assert all(same_bits(back[row], arrays[row]) for row in arrays)


@settings(max_examples=25)
@given(spec=network_specs())
def test_any_network_comes_back(tmp_path_factory, spec):
    arrays = draw(spec, 1)
    assert arrays["digit.kernel"].shape[0] == spec.num_inputs
    path = tmp_path_factory.mktemp("any") / "w.safetensors"
    save(path, spec, arrays)
    back_spec, back = load(path)
    assert back_spec == spec
    assert list(back) == list(arrays)
    assert all(same_bits(back[name], arrays[name]) for name in arrays)


def test_the_same_content_has_the_same_bytes(tmp_path):
    arrays = random_arrays(PRIMES)
    shas = [
        save(tmp_path / "a", PRIMES, arrays),
        save(tmp_path / "b", PRIMES, dict(reversed(arrays.items()))),
        save(tmp_path / "c", *load(tmp_path / "a")),
    ]
    assert len(set(shas)) == 1
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "c").read_bytes()


def test_the_sha256_covers_names_dtypes_shapes_values_and_header():
    header, arrays = {"a": 1, "b": [2.5]}, {"x": np.arange(6.0), "y": np.zeros((2, 3), "f4")}
    variants = [
        (arrays, header),
        (arrays, {"a": 2, "b": [2.5]}),
        ({"x": arrays["x"], "z": arrays["y"]}, header),
        ({**arrays, "y": arrays["y"].astype("f8")}, header),
        ({**arrays, "y": arrays["y"].view("i4")}, header),
        ({**arrays, "y": arrays["y"].reshape(3, 2)}, header),
        ({**arrays, "x": arrays["x"] + 1e-15}, header),
        ({"x": arrays["x"]}, header),
    ]
    assert len({weights.digest(*each) for each in variants}) == len(variants)
    assert weights.digest(arrays, header) == weights.digest(arrays, {**header, "sha256": "?"})


def test_arrays_without_axes_and_without_elements_come_back(tmp_path):
    arrays = {"step": np.array(3.5), "none": np.zeros((0, 3), "f4")}
    weights.save_arrays(tmp_path / "a", arrays, {"format": "x", "schema": weights.SCHEMA})
    back, _ = weights.load_arrays(tmp_path / "a", "x")
    assert all(same_bits(back[name], arrays[name]) for name in arrays)


def test_no_flipped_bit_goes_unseen(tmp_path):
    """Every byte of a file in turn; what still loads must be what was saved (1e-05 as 1E-05)."""
    path, arrays = tmp_path / "w.safetensors", random_arrays(TINY)
    save(path, TINY, arrays)
    whole = path.read_bytes()
    bits = np.random.default_rng(0).integers(0, 8, len(whole))
    for place, bit in enumerate(bits):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << int(bit)]) + whole[place + 1 :])
        try:
            spec, back = load(path)
        except WeightsError:
            continue
        assert spec == TINY, place
        assert all(same_bits(back[name], arrays[name]) for name in arrays), place


def test_no_truncated_or_lengthened_file_is_read(tmp_path):
    path = tmp_path / "w.safetensors"
    save(path, TINY, random_arrays(TINY))
    whole = path.read_bytes()
    for content in (*(whole[:size] for size in range(0, len(whole), 7)), whole[:-1], whole + b"\0"):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="not a whole safetensors file"):
            load(path)


def rewrite(path, change):
    """Change a file's header as JSON, sealing it with a fresh sha256."""
    arrays, header = weights.read_arrays(path)
    change(header)
    weights.save_arrays(path, arrays, {k: v for k, v in header.items() if k != "sha256"})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda h: h.update(format="other"),
            WeightsError,
            "holds other, expected twincaps-weights",
        ),
        (lambda h: h.pop("format"), WeightsError, "holds no twincaps header, expected"),
        (lambda h: h.update(schema=99), WeightsError, "schema version 99, this twincaps reads 1"),
        (lambda h: h["spec"].update(pose=7), WeightsError, "digit.kernel has shape (2, 2, 2, 1)"),
        (lambda h: h["spec"].pop("pose"), SpecError, "missing ['pose']"),
        (lambda h: h.pop("spec"), SpecError, "expected an object"),
        (lambda h: h["axes"].update({"primary.bias": "in"}), WeightsError, "axes {"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path, change, error, message):
    path = tmp_path / "w.safetensors"
    save(path, TINY, random_arrays(TINY))
    rewrite(path, change)
    with pytest.raises(error, match=re.escape(message)):
        load(path)


def test_a_safetensors_file_of_somebody_else_is_refused(tmp_path):
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    with pytest.raises(WeightsError, match="holds no twincaps header"):
        load(path)


@pytest.mark.parametrize("name", ["missing.safetensors", ""])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(WeightsError, match="no such file; expected"):
        load(tmp_path / name)


def test_all_that_does_not_fit_is_in_one_error(tmp_path):
    arrays = random_arrays(PRIMES)
    del arrays["primary.bias"], arrays["digit.bias"]
    arrays["Stem.0.bias"] = np.zeros(5, "f4")
    arrays["stem.0.kernel"] = arrays["stem.0.kernel"].transpose(3, 2, 0, 1)
    arrays["decoder.0.bias"] = arrays["decoder.0.bias"].astype("i4")
    with pytest.raises(WeightsError) as caught:
        save(tmp_path / "w.safetensors", PRIMES, arrays)
    assert str(caught.value).splitlines() == [
        "weights: 5 names do not fit this network:",
        "  decoder.0.bias has dtype int32, expected one of float32, float64, bfloat16, float16",
        "  missing digit.bias (3, 5)",
        "  missing primary.bias (14,)",
        "  stem.0.kernel has shape (5, 3, 3, 3), expected (3, 3, 3, 5)",
        "  unexpected Stem.0.bias (5,)",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_save_that_is_refused_leaves_the_old_file(tmp_path):
    path = tmp_path / "w.safetensors"
    save(path, PRIMES, random_arrays(PRIMES))
    before = path.read_bytes()
    with pytest.raises(WeightsError):
        save(path, PRIMES, {})
    assert path.read_bytes() == before


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_save_that_fails_leaves_the_old_file_and_nothing_beside(tmp_path, monkeypatch, step):
    path = tmp_path / "w.safetensors"
    save(path, PRIMES, random_arrays(PRIMES, seed=1))
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left"):
        save(path, PRIMES, random_arrays(PRIMES, seed=2))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_save_replaces_the_old_file_and_leaves_nothing_beside(tmp_path):
    path, new = tmp_path / "w.safetensors", random_arrays(PRIMES, seed=2)
    save(path, PRIMES, random_arrays(PRIMES, seed=1))
    save(path, PRIMES, new)
    assert all(same_bits(load(path)[1][name], new[name]) for name in new)
    assert list(tmp_path.iterdir()) == [path]


def test_weights_errors_are_for_users():
    assert issubclass(WeightsError, TwincapsError)
