"""The ladder holds for both wings, and a mistake in one breaks it at the right place.

Here both wings are in one process; test_compare_process.py has each in its own.
"""

import dataclasses
import importlib
import json

import numpy as np
import pytest
import wings
from specs import KINDS, PRIMES

from parity import compare
from parity.compare import show, subject
from parity.compare.rungs import functions, single_step
from parity.compare.wings import Here
from parity.spec import Loss, Primary, Routing, TrainingSpec, TwincapsError
from parity.traces import recording
from parity.weights import state, table

# Every option of the mathematics away from its default.
SPEC = dataclasses.replace(
    PRIMES,
    primary=Primary(types=2, size=7, kernel=4, scale=0.7),
    routing=Routing(num_iters=2, bias=True, leaky=True),
    loss=Loss(scale=0.5, class_mean=True, reconstruction=0.01),
)
TRAINING = TrainingSpec(
    clip_norm=0.1, decay_steps=7, weight_decay=0.1, ema=0.9, schedule="staircase", epsilon_hat=True
)
PRECISIONS = ["float32", pytest.param("float64", marks=pytest.mark.float64)]
WINGS = ("torch", "jax")


def ladder(rungs, precision="float64", spec=SPEC, modes=(), **options):
    whole = subject.of(spec, TRAINING, source="the test's network", batch=3)
    return compare.ladder(
        whole, rungs=rungs, precisions=(precision,), modes=modes, isolated=False, gpu=None,
        **options,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_rung_holds(both_wings, precision, capsys):
    report = ladder(range(9), precision, modes=("lean", "exported"))
    assert report.holds
    rungs = [row.rung for row in report.rows]
    assert sorted(set(rungs)) == list(range(9))
    assert [row.verdict for row in report.rows if row.rung < 8] == ["holds"] * (len(rungs) - 1)
    assert report.rows[-1].verdict == "skipped"
    for row in report.rows[:-1]:
        assert row.difference <= row.tolerance == compare.RUNGS[row.rung].tolerance(precision)
    plain = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert plain["holds"] is True
    assert {f"{wing} {precision} cpu" for wing in WINGS} == set(plain["environment"])
    assert plain["environment"][f"torch {precision} cpu"]["deterministic"] is True
    show.show(report)
    shown = capsys.readouterr().out
    assert "every rung holds" in shown
    assert "one adamw step" in shown
    assert "matmul_precision highest" in shown


@pytest.mark.float64
def test_the_rungs_of_one_step_hold(both_wings):
    report = ladder((0, 2, 3, 4))
    assert report.holds
    assert {row.rung for row in report.rows} == {0, 2, 3, 4}


@pytest.mark.float64
@pytest.mark.parametrize("train", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    "kind", [kind for kind, spec in KINDS.items() if any(row.free for row in table(spec).values())]
)
def test_a_gradient_is_rounding_where_the_table_says_so(both_wings, tmp_path, kind, train):
    spec = KINDS[kind]
    wing = Here("torch", "float64", "cpu", subject.of(spec, batch=3))
    wing.send("trace", tmp_path / "trace", {"train": train})
    wing.receive()
    trace = recording.load(tmp_path / "trace")
    free = {f"parameter/{name}": row.free for name, row in table(spec).items() if row.free}
    noise = {name: np.full_like(trace.gradients[name], 1e-18) for name in free}
    found = single_step.gradients(
        trace, dataclasses.replace(trace, gradients=trace.gradients | noise)
    )
    for name, when in free.items():
        rounding = when == "always" or train or not state(spec)
        assert (found[f"gradient at {name}"] < 1e-12) == rounding, name


def test_the_tolerances_are_the_designs():
    assert [(rung.float64, rung.float32) for rung in compare.RUNGS] == [
        (0, 0), (1e-13, 1e-5), (1e-13, 1e-5), (1e-12, 1e-5), (1e-11, 2e-5), (1e-9, 2e-5),
        (1e-9, 0.003), (1e-12, 1e-5), (1e-11, 2e-5),
    ]  # fmt: skip


def twice(right):
    return lambda *x, **options: 2 * right(*x, **options)


def over_inputs(right):
    return lambda logits, leaky, axis=-1: right(logits.swapaxes(1, 2), leaky).swapaxes(1, 2)


# wing, module, function and what is made of it -> the first value that differs
FORWARD = [
    ("torch", "layers.primary", "squash", twice, "primary.poses"),
    ("jax", "layers.primary", "squash", twice, "primary.poses"),
    ("torch", "layers.capsules", "votes", twice, "votes"),
    ("jax", "routing._dynamic", "coupling", over_inputs, "routing.0.coupling"),
    ("torch", "routing._dynamic", "squash", twice, "routing.0.poses"),
    ("jax", "networks.network", "lengths", twice, "lengths"),
]


@pytest.mark.float64
@pytest.mark.parametrize(
    ("wing", "module", "function", "wrong", "named"),
    wings.wide(FORWARD, lambda *row: row in (FORWARD[2], FORWARD[3])),
)
def test_the_first_value_that_differs(
    both_wings, monkeypatch, wing, module, function, wrong, named
):
    home = importlib.import_module(f"{wing}_caps.{module}")
    monkeypatch.setattr(home, function, wrong(getattr(home, function)))
    report = ladder((2, 3))
    together, *alone = report.rows[:3]
    assert (together.verdict, together.first) == ("differs", named)
    assert f"{named} differs too" in together.why
    assert f"; {wing} leaves the oracle" in together.why
    assert [row.verdict for row in alone] == [
        "differs" if each == wing else "holds" for each in WINGS
    ]
    assert report.rows[3].verdict == "skipped"
    assert report.rows[3].why == "not compared: rung 2 does not hold"
    assert not report.holds


def stop_gradient(wing, x):
    return x.detach() if wing == "torch" else __import__("jax").lax.stop_gradient(x)


# The same value with a gradient that is wrong -> the first gradient that differs.
BACKWARD = [
    ("torch", "layers.primary", "squash", "primary.conv"),
    ("jax", "layers.primary", "squash", "primary.conv"),
    ("torch", "networks.network", "lengths", "routing.1.poses"),
    ("jax", "layers.capsules", "votes", "parameter/digit.kernel"),
]


@pytest.mark.float64
@pytest.mark.parametrize(
    ("wing", "module", "function", "named"),
    wings.wide(BACKWARD, lambda *row: row in (BACKWARD[0], BACKWARD[3])),
)
def test_the_first_gradient_that_differs(both_wings, monkeypatch, wing, module, function, named):
    home = importlib.import_module(f"{wing}_caps.{module}")
    right = getattr(home, function)

    def wrong(*x, **options):
        y = right(*x, **options)
        return y + 0.1 * (y - stop_gradient(wing, y))

    monkeypatch.setattr(home, function, wrong)
    rows = ladder((2, 3)).rows
    assert [row.verdict for row in rows] == ["holds", "holds", "holds", "differs"]
    assert rows[-1].first == f"gradient at {named}"
    assert f"; {wing} leaves the oracle" in rows[-1].why


@pytest.mark.float64
def test_a_nan_of_one_wing_is_a_difference(both_wings, monkeypatch):
    home = both_wings[1].losses
    monkeypatch.setattr(
        home, "reconstruction_each", lambda a, b: (a - b).sum((1, 2, 3)) * float("nan")
    )
    report = ladder((2,))
    row = report.rows[0]
    assert (row.verdict, row.first, row.difference) == (
        "differs",
        "loss.reconstruction",
        float("inf"),
    )
    assert "jax leaves the oracle" in row.why
    assert report.as_dict()["rows"][0]["difference"] is None


@pytest.mark.float64
@pytest.mark.slow
def test_what_float64_does_not_show_is_rounding(both_wings, monkeypatch):
    """A wing whose float32 is a little worse than it should be."""
    torch, right = both_wings[0], both_wings[0].layers.primary.squash

    def coarse(x):
        return right(x) if x.dtype.itemsize == 8 else right(x).bfloat16().to(x.dtype)

    monkeypatch.setattr(torch.layers.primary, "squash", coarse)
    row = ladder((2,), "float32").rows[0]
    assert (row.verdict, row.first) == ("differs", "primary.poses")
    assert row.why == "rounding: in float64 they agree"


@pytest.fixture
def only(monkeypatch):
    """Cut rung 1 down to the cases of these names."""

    def cut(*names):
        few = {name: case for name, case in functions.cases().items() if name in names}
        monkeypatch.setattr(functions, "cases", lambda: few)

    functions.expected.cache_clear()
    yield cut
    functions.expected.cache_clear()


@pytest.mark.float64
def test_rounding_of_a_pure_function(both_wings, monkeypatch, only):
    only("squash over axis 1")
    home, right = both_wings[0].capsules, both_wings[0].capsules.squash

    def coarse(x, axis=-1):
        y = right(x, axis)
        return y if x.dtype.itemsize == 8 else y.bfloat16().to(x.dtype)

    monkeypatch.setattr(home, "squash", coarse)
    first, second = ladder((1,), "float32").rows
    assert (first.verdict, first.first) == ("differs", "squash over axis 1: value")
    assert first.why == "rounding: in float64 it holds"
    assert second.verdict == "holds"


@pytest.mark.float64
@pytest.mark.parametrize("wing", WINGS)
@pytest.mark.slow
def test_a_pure_function_is_named_down_to_the_iteration(both_wings, monkeypatch, only, wing):
    only(*(f"dynamic num_iters={n}" for n in (1, 2, 3)))
    home = importlib.import_module(f"{wing}_caps.routing._dynamic")
    right, calls = home.coupling, []

    def forgets(logits, leaky, axis=-1):
        """From the second iteration on, couplings of the first."""
        calls.append(logits)
        return right(logits * 0 if (logits != 0).any() else logits, leaky, axis)

    monkeypatch.setattr(home, "coupling", forgets)
    rows = ladder((1,)).rows
    assert calls
    guilty, innocent = rows if wing == "torch" else reversed(rows)
    assert (guilty.first, guilty.verdict) == ("dynamic num_iters=2: routing.1.coupling", "differs")
    assert guilty.why == "semantic: this is float64"
    assert innocent.verdict == "holds"


@pytest.mark.float64
def test_what_a_wing_raises_breaks_the_ladder_there(both_wings, monkeypatch):
    def fails(*x, **options):
        raise RuntimeError("no such thing\nand more of it")

    monkeypatch.setattr(both_wings[0].tracing, "trace", fails)
    report = ladder((0, 2, 3), keep_going=True)
    assert [row.verdict for row in report.rows] == ["holds", "holds", "raises", "raises"]
    assert report.rows[2].why == "torch: RuntimeError: no such thing"
    assert not report.holds


@pytest.mark.float64
def test_a_lost_slot_breaks_rung_0(both_wings, monkeypatch):
    trainer = both_wings[1].training.Trainer
    right = trainer.get_state

    def forgets(self):
        state = right(self)
        state["optimizer"]["adam.v/digit.bias"] *= 0
        return state

    monkeypatch.setattr(trainer, "get_state", forgets)
    first, second = ladder((0,)).rows
    assert first.verdict == "holds"
    assert (second.verdict, second.first) == ("differs", "slots/adam.v/digit.bias")


@pytest.mark.parametrize("rungs", [(9,), (0, 11), (-1,)])
def test_an_unknown_rung_is_refused(rungs):
    with pytest.raises(TwincapsError, match="unknown; expected 0 to 8"):
        ladder(rungs)
