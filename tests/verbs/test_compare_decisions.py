"""A relu that decides differently in the two wings: what is excused, and what is not.

A bias is chosen so that one number of the stem is nearly 0, and rounding is played by moving that
number in one wing to the other side.
"""

import dataclasses
import importlib

import numpy as np
import pytest
from specs import PRIMES

from parity import compare, reference
from parity.compare import decisions, subject
from parity.spec import Conv, Depthwise, Efficient, NetworkSpec, Norm, TrainingSpec, to_dict
from parity.traces.recording import Trace

SPEC = Efficient(
    image=(11, 11, 2),
    stem=(Conv(5, 3), Conv(6, 3, 2)),
    primary=Depthwise(types=3, size=2, kernel=4),
    classes=5,
    pose=7,
    decoder=(11,),
)
NAME, PLACE = "stem.0.conv", (1, 3, 5, 2)
NEAR = 3e-7  # of numbers around 1: well within rung 2's tolerance


def trace(x, name: str = "torch", spec: NetworkSpec = SPEC) -> Trace:
    """A trace whose stem has these numbers first, and nothing else that a relu takes."""
    one = np.ones((1, 1))
    values = dict.fromkeys(spec.rectified(), one) | {spec.rectified()[0]: np.asarray(x)}
    request = {"backend": name, "mode": "usual", "device": "cpu", "spec": to_dict(spec)}
    return Trace(request, {}, values, {}, np.zeros(1))


def pair(x, y):
    return trace(x), trace(y, "jax")


def test_what_a_relu_takes_is_known_of_every_network():
    assert PRIMES.rectified() == ("stem.0",)
    assert SPEC.rectified() == ("stem.0.conv", "stem.1.conv")
    first = dataclasses.replace(SPEC, norm=Norm(first=True), slope=0.3)
    assert first.rectified() == ("stem.0.norm", "stem.1.norm")
    assert dataclasses.replace(SPEC, slope=1.0).rectified() == ()


def test_a_number_on_the_other_side_of_0_is_named():
    (flip,) = decisions.flips(*pair([[2.0, 1e-7, -3.0]], [[2.0, -3e-7, -3.0]]))
    assert (flip.name, flip.index, flip.share) == ("stem.0.conv", (0, 1), pytest.approx(1e-7))
    assert str(flip) == "stem.0.conv[0, 1] is 1.0e-07 in torch and -3.0e-07 in jax"
    # Whether it passes is the question, so 0 is below.
    assert len(decisions.flips(*pair([[0.0, 1.0]], [[1e-9, 1.0]]))) == 1
    assert decisions.flips(*pair([[0.0, 1.0]], [[-1e-9, 1.0]])) == []
    assert decisions.flips(*pair([[1.0]], [[1.0, 1.0]])) == []


def test_the_first_batch_that_is_decided_alike_is_taken():
    apart, same = pair([[1.0, 1e-7]], [[1.0, -1e-7]]), pair([[1.0, 0.5]], [[1.0, 0.5]])
    decided = decisions.alike(lambda brighter: same if brighter == 3 else apart, 1e-5)
    assert (decided.traces, decided.brighter) == (same, 3)
    assert "brighter by 3/1024" in decided.note
    assert "stem.0.conv[0, 1] is 1.0e-07 in torch and -1.0e-07 in jax" in decided.note
    decided = decisions.alike(lambda brighter: same, 1e-5)
    assert (decided.traces, decided.brighter, decided.note) == (same, 0, "")


def test_a_number_so_near_0_that_a_third_program_may_decide_otherwise_is_no_ground_to_compare_on():
    near, same = pair([[1.0, 1e-9, 0.0]], [[1.0, 3e-9, 0.0]]), pair([[1.0, 1e-7]], [[1.0, 3e-7]])
    assert decisions.flips(*near) == decisions.flips(*same, 1e-8) == []
    (flip,) = decisions.flips(*near, 1e-8)
    assert flip.index == (0, 1)
    decided = decisions.alike([near, same].__getitem__, 1e-5, 1e-8)
    assert (decided.traces, decided.brighter) == (same, 1)
    assert "may decide differently: stem.0.conv[0, 1] is 1.0e-09 in torch" in decided.note


@pytest.mark.parametrize("brighter", [0, 1])
def test_a_number_that_is_not_near_0_is_no_excuse(brighter):
    near, far = pair([[1.0, 1e-7]], [[1.0, -1e-7]]), pair([[1.0, 1e-3]], [[1.0, -1e-7]])
    same = pair([[1.0]], [[1.0]])
    batches = [far, same] if brighter == 0 else [near, far, same]
    decided = decisions.alike(batches.__getitem__, 1e-5)
    assert (decided.traces, decided.brighter) == (batches[0], 0)
    assert "decides differently" in decided.note


def test_batches_that_are_never_decided_alike_are_no_excuse():
    apart = pair([[1.0, 1e-7]], [[1.0, -1e-7]])
    decided = decisions.alike(lambda _: apart, 1e-5)
    assert (decided.traces, decided.brighter) == (apart, 0)


def near_0() -> subject.Subject:
    """A subject in which the number at `PLACE` is `NEAR`."""
    whole = subject.of(SPEC, TrainingSpec(epsilon_hat=True), batch=3)
    images, labels = whole.at(0)
    seen = reference.forward(SPEC, whole.weights, images, labels, train=True)
    bias = whole.weights["stem.0.bias"].astype(np.float64)
    bias[PLACE[-1]] -= seen[NAME][PLACE] - NEAR
    weights = {**whole.weights, "stem.0.bias": bias}  # in float64: it is cast where it is used
    return subject.of(SPEC, whole.training, weights, batch=3)


def ladder(rungs=(2, 3, 4)):
    options = {"precisions": ("float32",), "isolated": False, "gpu": None}
    return compare.ladder(near_0(), rungs=rungs, **options).rows


@pytest.fixture
def moved(both_wings, monkeypatch):
    """Makes one wing's number at `PLACE` smaller by a little: below 0."""
    home = importlib.import_module("torch_caps.layers.norm")
    right = home.NormalConv.convolved

    def move(by):
        def convolved(self, x, tap, bias=None):
            y = right(self, x, tap, bias)
            if y.shape[-1] == SPEC.stem[0].channels:
                y = y.clone()
                y[PLACE] = y[PLACE] - by
            return y

        monkeypatch.setattr(home.NormalConv, "convolved", convolved)

    return move


@pytest.mark.slow
def test_gradients_are_compared_where_relus_decide_alike(moved):
    moved(2 * NEAR)
    rows = ladder()
    assert [row.verdict for row in rows] == ["holds"] * len(rows), rows
    (note,) = {row.why for row in rows if row.what.startswith("gradients, torch against jax")}
    assert f"{NAME}{list(PLACE)} is -" in note
    assert "e-07 in torch and " in note
    assert sum("brighter by 1/1024" in row.why for row in rows) == len(rows) - 2, "but of rung 2"


@pytest.mark.slow
def test_without_that_they_differ(moved, monkeypatch):
    moved(2 * NEAR)
    monkeypatch.setattr(decisions, "BATCHES", 0)
    rows = ladder((3,))
    assert [row.verdict for row in rows] == ["differs"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("mistake", ["at that number", "near 0"])
def test_a_wrong_gradient_at_such_a_number_is_none_the_less_found(moved, monkeypatch, mistake):
    """A real mistake at just the number that is excused, or at all that are near 0."""
    torch = importlib.import_module("torch")
    home = importlib.import_module("torch_caps.layers.norm")
    right = home.leaky

    def leaky(x, slope):
        y = right(x, slope)
        at = torch.zeros_like(x)
        if mistake == "near 0":
            at[x.abs() < 1e-2] = 1.0
        elif x.shape[-1] == SPEC.stem[0].channels:
            at[PLACE] = 1.0
        return y + at * (x - x.detach())  # the value stays; a slope of 1 more

    moved(2 * NEAR)
    monkeypatch.setattr(home, "leaky", leaky)
    rows = ladder((2, 3, 4))
    by_rung = {number: {row.verdict for row in rows if row.rung == number} for number in (2, 3)}
    assert by_rung == {2: {"holds"}, 3: {"differs"}}
    assert all(row.first for row in rows if row.rung == 3)
