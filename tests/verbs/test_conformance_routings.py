"""Somebody else's routing against any routing of the table, by a made-up one that owns a prior."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from test_conformance import DIFFERENTIABLE, namespace, softmax

from parity import conformance, reference
from parity.conformance import ConformanceError, check_callable
from parity.spec import ROUTINGS, Owned, Routing, SpecError


@dataclass(frozen=True)
class Primed(Routing):
    owns: ClassVar = {"prior": Owned("i j", std=0.1)}

    name: str = "primed"
    num_iters: int = 2
    temperature: float = 1.5
    sharp: bool = False


def theirs(xp, factor=1.0):
    """A softmax over the outputs of what each vote, its prior and the last poses say."""

    def route(votes, num_iters, prior_IJ, temperature=1.5):
        poses = xp.zeros_like(votes[:, 0])
        coupling = xp.zeros_like(votes[..., 0])
        for _ in range(num_iters):
            logits = prior_IJ[None] + (votes * poses[:, None]).sum(axis=-1)
            coupling = softmax(xp, logits / temperature, 2)
            poses = (coupling[..., None] * votes).sum(axis=1)
        return factor * poses, coupling

    return route


@pytest.fixture(autouse=True)
def primed(monkeypatch):
    def oracle(votes_BIJD, *, num_iters=2, prior_IJ, temperature=1.5, sharp=False):
        assert not sharp
        return theirs(np)(votes_BIJD, num_iters, prior_IJ, temperature)

    monkeypatch.setitem(ROUTINGS, "primed", Primed)
    monkeypatch.setattr(reference.routing, "primed", oracle, raising=False)


def check(function):
    return check_callable("routing", function, "primed")


ROUTE = theirs(np)
CALLS = {
    "by our names": (ROUTE, "f(votes, num_iters=r, prior_IJ=prior_IJ, temperature=temperature)"),
    "by a plain name": (
        lambda votes, num_iters, prior: ROUTE(votes, num_iters, prior),
        "f(votes, num_iters=r, prior=prior_IJ)",
    ),
    "iterations in its second place": (
        lambda votes, much, prior: ROUTE(votes, much, prior),
        "f(votes, r, prior=prior_IJ)",
    ),
    "its own iterations": (
        lambda votes, prior_IJ: ROUTE(votes, 2, prior_IJ),
        "f(votes, prior_IJ=prior_IJ)",
    ),
    "any names": (
        lambda votes, num_iters, **more: ROUTE(votes, num_iters, **more),
        "f(votes, num_iters=r, prior_IJ=prior_IJ)",
    ),
    "a switch that must be given": (
        lambda votes, num_iters, prior, sharp: ROUTE(votes, num_iters, prior + sharp),
        "f(votes, num_iters=r, prior=prior_IJ, sharp=sharp)",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_it_owns_is_given_by_name(name):
    function, convention = CALLS[name]
    report = check(function)
    assert report.conforms, report.rows
    assert (report.convention, report.routing) == (convention, "primed")


@pytest.mark.parametrize("framework", DIFFERENTIABLE)
def test_gradients_are_checked_in_its_own_framework(framework):
    report = check(theirs(namespace(framework)))
    assert report.conforms, report.rows
    assert report.frameworks == [framework]
    cases = {row.case for row in report.rows if row.tensor == "gradient"}
    assert cases == {
        *("default options", "two iterations", "three iterations"),
        *("short poses", "a zero capsule"),
    }


def broken(votes, num_iters, prior):
    poses, coupling = ROUTE(votes, num_iters, prior)
    return poses * np.where((votes == 0).any(), np.nan, 1), coupling


@pytest.mark.parametrize(
    ("function", "mistakes"),
    [
        (theirs(np, 2.0), ["off by a constant factor 2"]),
        (broken, ["NaN at a zero capsule"]),
        (lambda votes, num_iters, prior: ROUTE(votes, num_iters, 0 * prior), []),
        (lambda votes, prior: ROUTE(votes, 3, prior), []),
    ],
)
def test_mistakes_that_any_routing_may_have(function, mistakes):
    report = check(function)
    assert not report.conforms
    assert report.mistakes == mistakes


@pytest.mark.parametrize("function", [lambda votes: votes[:, 0], lambda votes, num_iters, x: votes])
def test_a_parameter_that_it_does_not_take_is_named(function):
    with pytest.raises(ConformanceError) as caught:
        check(function)
    message = str(caught.value)
    assert "takes no prior_IJ, which routing primed needs" in message
    assert (
        "expected f(votes, prior_IJ, num_iters) or f(votes, prior_IJ), which is held to two "
        in (message)
    )
    assert "with votes [B, I, J, D], prior_IJ [I, J], returning poses" in message
    assert "an argument prior_IJ or prior" in message


def test_an_unknown_routing_and_one_of_another_kind():
    with pytest.raises(
        SpecError, match=r"routing 'other' is unknown; expected one of dynamic, .*primed"
    ):
        check_callable("routing", ROUTE, "other")
    with pytest.raises(ConformanceError, match="routing is 'primed', of a squash"):
        check_callable("squash", ROUTE, "primed")


def test_the_verb_takes_a_routing(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("def mine(votes, prior):\n    return 0 * votes[:, 0]\n")
    assert conformance.main(module=f"{tmp_path}/mine.py:mine", routing="primed") == 1
    said = capsys.readouterr().out
    assert "mine: routing primed in numpy" in said
    assert ", called as f(votes, prior=prior_IJ)\n" in said
