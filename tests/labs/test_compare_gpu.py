"""Rung 8 on a GPU where there is one, and the script that measures it, on the CPU in its place."""

import functools
import json

import pytest
from specs import PRIMES

from benchmarks import gpu
from parity import compare
from parity.compare import _ladder, subject, wings
from parity.compare.comparison import Row


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_both_wings_agree_on_a_gpu(precision):
    report = compare.ladder(subject.of(PRIMES), rungs=(8,), precisions=(precision,))
    assert [row.verdict for row in report.rows] == ["holds"] * 7


@pytest.fixture
def here(both_wings, monkeypatch):
    """Both wings in this process, and JAX's precision of products given back at the end."""
    import jax

    before = jax.config.jax_default_matmul_precision
    there = functools.partial(compare.ladder, isolated=False, precisions=("float32",))
    monkeypatch.setattr(gpu.compare, "ladder", there)
    monkeypatch.setattr(gpu.wings, "pair", functools.partial(wings.pair, isolated=False))
    yield subject.of(PRIMES, source="primes", batch=2)
    jax.config.update("jax_default_matmul_precision", before)


@pytest.mark.slow
def test_the_script_measures_and_writes_a_page(here, tmp_path, capsys):
    bench = gpu.Bench(here, "cpu", batch=3, steps=2, modes=("float32", "bfloat16"))
    measured = gpu.measure(bench)
    assert measured["ladder"]["holds"]
    rows = measured["ladder"]["rows"]
    assert [row["what"] for row in rows[:3]] == [
        "forward, torch against jax", "gradients, torch against jax",
        "forward, torch on GPU against CPU",
    ]  # fmt: skip
    assert {(row["rung"], row["tolerance"]) for row in rows} == {(8, 2e-5)}
    pairs = measured["reduced"]["bfloat16"]
    rounded = [pairs[name]["values"]["difference"] for name in pairs]
    assert all(1e-4 < each < 0.1 for each in rounded)
    assert measured["reduced"]["float32"]["torch against jax"]["values"]["difference"] < 1e-5
    for wing in ("torch", "jax"):
        for told in measured["noise"][wing].values():
            assert all(kind["difference"] < 1e-6 for kind in told.values())
        assert measured["images a second"]["float32"][wing] > 0
    path = gpu.write({"primes": measured}, "cpu", tmp_path / "docs", 60)
    assert path.name.endswith("-cpu.md")
    assert "## primes: rung 8 holds" in path.read_text()
    assert json.loads(path.with_suffix(".json").read_text())["networks"]["primes"] == measured


def test_without_a_gpu_the_script_ends_with_code_2(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(_ladder, "NVIDIA", ())
    whole = subject.of(PRIMES)
    row = Row(8, "float32", "GPU", verdict="skipped", why="no NVIDIA GPU here")
    report = compare.Report(whole, [row], {}, 0)
    monkeypatch.setattr(gpu.compare, "ladder", lambda *args, **options: report)
    assert gpu.main(["--preset", "small", "--out", str(tmp_path / "docs")]) == 2
    assert "rung 8 cannot be compared: no NVIDIA GPU here" in capsys.readouterr().err
    assert not (tmp_path / "docs").exists()


def test_rung_8_is_skipped_by_name_where_there_is_no_gpu(both_wings, monkeypatch):
    monkeypatch.setattr(_ladder, "NVIDIA", ())
    rows = compare.ladder(
        subject.of(PRIMES), rungs=(8,), precisions=("float32",), isolated=False
    ).rows
    assert [(row.verdict, row.why) for row in rows] == [("skipped", "no NVIDIA GPU here")]
