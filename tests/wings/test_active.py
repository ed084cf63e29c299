"""Networks of capsules with activations on the ladder, and through the door a user takes."""

import itertools
import json

import numpy as np
import pytest
import test_em
import test_inverted
import test_self_routing
import test_variational_bayes
from wings import PACKAGES, door

from parity import compare
from parity.compare import subject
from parity.compare.rungs import single_step
from parity.spec import OPTIMIZERS, Routing, TrainingSpec

pytestmark = pytest.mark.slow
SPECS = {
    "self_routing": test_self_routing.TINY,
    "em": test_em.TINY,
    "em released": test_em.dataclasses.replace(
        test_em.TINY, routing=Routing("em", num_iters=2, released=True)
    ),
    "variational_bayes": test_variational_bayes.TINY,
    "variational_bayes full": test_em.dataclasses.replace(
        test_variational_bayes.TINY, routing=Routing("variational_bayes", covariance="full")
    ),
}
# Not those of matrices: at first weights the numbers of a first pose are so near to each other that
# the norm's 1 / sqrt(variance + 1e-5), up to 316, makes 3e-5 of float32's rounding at this batch.
SPECS |= {
    f"inverted, {name}": spec for name, spec in test_inverted.SPECS.items() if name != "matrices"
}
TRAINING = TrainingSpec(l2=1e-3, ema=0.9, clip_norm=0.1, spread="linear", spread_steps=50)
PRESETS = ("tiny-selfrouting", "tiny-em", "tiny-vb", "tiny-inverted")


# One of each network in float32, the rungs that hold there; what optimisers make of gradients is in
# float64 alone. EM's gradient at a mean is 4e-5 from float64, a sum over children that cancels: one
# rounding of the logits' gradient moves it by 7e-6. Variational Bayes' class activations are
# normalised over the batch, which multiplies rounding: 1.2e-5 between the wings. In evaluation, by
# running numbers, it is 1.4e-6.
FLOAT32 = {
    "self_routing": (0, 2, 3, 7),
    "em": (0, 2, 7),
    "variational_bayes": (0, 7),
    "inverted, vectors": (0, 2, 3, 7),
}
ROWS = [(name, "float32") for name in FLOAT32]
ROWS += [pytest.param(name, "float64", marks=pytest.mark.float64) for name in SPECS]
# One optimiser a network, in turns: what each makes of gradients is in test_compare_ladder.py.
TURNS = dict(zip(SPECS, itertools.cycle(OPTIMIZERS), strict=False))


@pytest.mark.parametrize(("name", "precision"), ROWS)
def test_the_ladder_holds(both_wings, name, precision, monkeypatch):
    monkeypatch.setattr(single_step, "OPTIMIZERS", (TURNS[name],))
    whole = subject.of(SPECS[name], TRAINING, source="the test's network", batch=4)
    rungs = FLOAT32[name] if precision == "float32" else (0, 2, 3, 4, 7)
    modes = ("lean", "exported") if 3 in rungs else ("exported",)  # a lean gradient is one, too
    report = compare.ladder(
        whole, rungs=rungs, precisions=(precision,), modes=modes, isolated=False, gpu=None
    )
    assert report.holds, [row for row in report.rows if row.fails]
    assert not [row for row in report.rows if row.verdict == "skipped"]


def handed_over(run, preset, first):
    """A run of two epochs, begun in one wing by the command line and ended in the other."""
    then = next(name for name in PACKAGES if name != first)
    flags = ("--preset", preset, "--dataset", "tiny-stripes", "--epochs", "1")
    said = door("train", *flags, "--backend", first, "--out", run)
    assert said.returncode == 0, said.stderr
    said = door("train", "--resume", run, "--backend", then, "--epochs", "2")
    assert said.returncode == 0, said.stderr
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["event"] == "train"]
    assert len(losses) == 26
    assert np.isfinite(losses).all()


# Begun in one wing and ended in the other, in turns.
@pytest.mark.parametrize(("preset", "first"), [*zip(PRESETS, 2 * [*PACKAGES], strict=True)])
def test_a_run_is_trained_handed_over_and_looked_at(tmp_path, preset, first):
    run = tmp_path / "run"
    handed_over(run, preset, first)
    said = door("evaluate", run, "--json", "--shifts", "1")
    assert said.returncode == 0, said.stderr
    assert 0 <= json.loads(said.stdout)["accuracy"] <= 1
    out = tmp_path / "figures"
    said = door("figures", run, "--json", "--out", out, DOOR_FIGURES="")
    assert said.returncode == 0, said.stderr
    assert {"curves", "confusion", "couplings"} == set(json.loads(said.stdout))
    said = door("export", run, tmp_path / "net.onnx")
    assert said.returncode == 0, said.stderr
