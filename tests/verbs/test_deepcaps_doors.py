"""DeepCaps on the ladder, and through the verbs that a user calls."""

import json

import pytest
import test_active
import test_deepcaps
import wings
from wings import door

from parity import compare
from parity.compare import subject
from parity.compare.rungs import single_step
from parity.spec import TrainingSpec

pytestmark = pytest.mark.slow
TRAINING = TrainingSpec(epsilon=1e-7, epsilon_hat=True, ema=0.9, hard_step=3)
FOUR = str(wings.ROOT / "tests/pictures/four.png")


FLOAT64 = pytest.mark.float64
LADDERS = [
    ("TINY", "float32"),
    pytest.param("TINY", "float64", marks=FLOAT64),
    pytest.param("RELEASED", "float64", marks=FLOAT64),
]


@pytest.mark.parametrize(("name", "precision"), LADDERS)
def test_the_ladder_holds(both_wings, name, precision, monkeypatch):
    one = {"TINY": "adam", "RELEASED": "sgd"}[name]  # all of them are in test_compare_ladder.py
    monkeypatch.setattr(single_step, "OPTIMIZERS", (one,))
    spec = getattr(test_deepcaps, name)
    whole = subject.of(spec, TRAINING, source="the test's network", batch=4)
    rungs = (0, 2, 3, 7) if precision == "float32" else (0, 2, 3, 4, 7)
    report = compare.ladder(
        whole, rungs=rungs, precisions=(precision,), modes=("lean", "exported"),
        isolated=False, gpu=None,
    )  # fmt: skip
    assert report.holds, [row for row in report.rows if row.fails]
    assert not [row for row in report.rows if row.verdict == "skipped"]


def test_a_run_is_trained_handed_over_and_looked_at(tmp_path):
    run = tmp_path / "run"
    test_active.handed_over(run, "tiny-deepcaps", "torch")
    for argv in (
        ("evaluate", run, "--json"),
        ("predict", FOUR, "--weights", run, "--out", tmp_path / "seen"),
        ("export", run, tmp_path / "net.onnx"),
        ("export", run, tmp_path / "net.pt2"),
    ):
        said = door(*argv)
        assert said.returncode == 0, said.stderr
    assert (tmp_path / "seen/four-reconstruction.png").stat().st_size > 0
    out = tmp_path / "figures"
    said = door("figures", run, "--json", "--out", out, DOOR_FIGURES="")
    assert said.returncode == 0, said.stderr
    drawn = {"curves", "confusion", "couplings", "reconstructions", "perturbations"}
    assert drawn == set(json.loads(said.stdout))
    said = door("explore", run, "--out", tmp_path / "page.html")
    assert (said.returncode, "Traceback" in said.stderr) == (2, False)
    assert "deepcaps" in said.stderr
