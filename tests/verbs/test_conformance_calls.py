"""A call that is not sure is never a verdict: names, orders and defaults, and --call."""

import functools
import json

import numpy as np
import pytest
from test_conformance import (
    DIFFERENTIABLE,
    ROUTE,
    constant,
    loss,
    naive_squash,
    namespace,
    router,
    safe_squash,
)

from parity.conformance import ConformanceError, check_callable

LOSS, SQUASH = loss(np), safe_squash(np)


def one_hot(labels, classes):
    return np.eye(classes)[labels]


class Router:
    def __call__(self, votes, num_iters=3):
        return ROUTE(votes, num_iters)


# Right functions of every spelling -> how they are called.
RIGHT = {
    "routes beside iterations": (
        *("routing", lambda votes, num_routes=None, num_iterations=3: ROUTE(votes, num_iterations)),
        "f(votes, num_iterations=r)",
    ),
    "a routing bias": (
        *("routing", lambda votes, routing_bias=None, iters=3: ROUTE(votes, iters)),
        "f(votes, iters=r)",
    ),
    "a switch that speaks of iterates": (
        "routing",
        lambda votes, return_iterates=False, num_iterations=3: ROUTE(votes, num_iterations),
        "f(votes, num_iterations=r)",
    ),
    "a switch that speaks of iterations": (
        "routing",
        lambda votes, last_iter=False, n_routing=3: ROUTE(votes, n_routing),
        "f(votes, n_routing=r)",
    ),
    "a default of none": (
        "routing",
        lambda votes, n_iter=None: ROUTE(votes, 3 if n_iter is None else n_iter),
        "f(votes, n_iter=r)",
    ),
    "a number that is not used": (
        *("routing", lambda votes, routes=1152: ROUTE(votes, 3)),
        "f(votes)",
    ),
    "an object": ("routing", Router(), "f(votes, num_iters=r)"),
    "a partial": ("routing", functools.partial(router(np), num_iters=3), "f(votes, num_iters=r)"),
    "keras' order": (
        *("margin_loss", lambda y_true, y_pred: LOSS(y_pred, y_true)),
        "f(one_hot, lengths)",
    ),
    "labels first": (
        "margin_loss",
        lambda labels, v: LOSS(v, one_hot(labels, v.shape[1])),
        "f(labels, lengths)",
    ),
    "names that say nothing, targets first": (
        *("margin_loss", lambda a, b: LOSS(b, a)),
        "f(one_hot, lengths)",
    ),
    "whole poses": (
        "margin_loss",
        lambda v, target: LOSS(np.sqrt((v * v).sum(-1)), target),
        "f(poses, one_hot)",
    ),
    "one an image": (
        "margin_loss",
        lambda lengths, targets: np.array([LOSS(*x) for x in zip(
            lengths[:, None], targets[:, None], strict=True)]),
        "f(lengths, one_hot)",
    ),
    "by keyword alone": (
        "margin_loss",
        lambda *, lengths, labels: LOSS(lengths, one_hot(labels, lengths.shape[1])),
        "f(lengths=lengths, labels=labels)",
    ),
    "a dim": ("squash", lambda x, dim=1: safe_squash(np, dim)(x), "f(x, dim=-1)"),
    "an axis by keyword alone": ("squash", lambda x, *, axis: safe_squash(np, axis)(x), "axis=-1"),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_right_functions_of_any_spelling_conform(name):
    kind, function, convention = RIGHT[name]
    report = check_callable(kind, function)
    assert report.conforms, report.rows
    assert convention in report.convention


# Functions that cannot be called rightly by guessing -> the call that does it, if any is right.
UNSURE = {
    "an odd name": (
        *("routing", lambda votes, *, depth=4: ROUTE(votes, depth)),
        "f(votes, depth=r)",
    ),
    "a switch that must be given": (
        "routing",
        lambda votes, much, invert: ROUTE(-votes if invert else votes, much),
        "f(votes, r, False)",
    ),
    "a scale that is no default": (
        *("margin_loss", lambda a, b, scale=0.3: loss(np, power=1)(a, b) * scale + a.mean()),
        None,
    ),
}


@pytest.mark.parametrize("name", UNSURE)
def test_a_call_that_is_not_sure_is_asked_for(name):
    kind, function, call = UNSURE[name]
    with pytest.raises(ConformanceError, match=r"--call") as told:
        check_callable(kind, function)
    assert "could not be called" in str(told.value) or "not clear how" in str(told.value)
    if call is not None:
        report = check_callable(kind, function, call=call)
        assert report.conforms
        assert report.convention == call


def test_a_number_that_changes_nothing_is_not_believed():
    with pytest.raises(ConformanceError, match="r makes no difference to what it returns"):
        check_callable("routing", lambda votes, num_iters: ROUTE(votes, 5))


def test_a_call_that_is_said_is_a_verdict():
    four = lambda votes, depth=4: ROUTE(votes, depth)  # noqa: E731
    report = check_callable("routing", four, call="f(votes)")
    assert report.mistakes == ["one routing iteration too many"]
    wrong = check_callable("margin_loss", lambda a, b: LOSS(a, b) ** 2, call="f(lengths, one_hot)")
    assert not wrong.conforms
    assert wrong.mistakes == []


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("f(votes, num_iters=n)", "n is not known; expected f(...) of votes,"),
        ("f(votes, num_iters=", "no expression of Python"),
        ("g(votes)", "no call of f"),
        ("votes", "no call of f"),
        ("f(votes, *rest)", "stars are not read"),
        ("f(votes, **rest)", "stars are not read"),
        ("f(votes, open('x'))", "open('x') is no name and no constant"),
        ("f(3)", "none of what the function is about"),
    ],
)
def test_a_call_that_cannot_be_read_says_what_can(call, says):
    with pytest.raises(ConformanceError) as told:
        check_callable("routing", ROUTE, call=call)
    assert says in str(told.value)
    assert "f(votes, num_iterations=r)" in str(told.value)


def test_a_function_of_many_frameworks_is_judged_where_it_has_gradients():
    """Its values are right everywhere; the gradient of its square root at 0 is not."""

    def squash(x):
        length = (x * x).sum(-1)[..., None] ** 0.5
        return x * length / (1 + length * length)

    report = check_callable("squash", squash)
    assert report.frameworks == DIFFERENTIABLE
    assert report.mistakes == ["NaN at a zero capsule"]
    assert {row.tensor for row in report.rows if not row.holds} == {"gradient"}
    assert {row.framework for row in report.rows} == set(DIFFERENTIABLE)


@pytest.mark.parametrize("framework", DIFFERENTIABLE)
def test_other_people_s_ways_to_hold_a_function(framework):
    xp, function = namespace(framework), None
    if framework == "torch":

        class Squash(xp.nn.Module):
            def forward(self, x):
                return safe_squash(xp)(x)

        function = Squash()
    else:
        import jax

        function = jax.jit(safe_squash(xp))
    report = check_callable("squash", function)
    assert report.conforms, report.rows
    assert report.frameworks == [framework]
    wrong = check_callable("squash", lambda x: constant(naive_squash(xp)(x)))
    assert "NaN at a zero capsule" in wrong.mistakes


def test_the_verb_takes_a_call_and_prints_json(tmp_path, capsys):
    from parity.__main__ import main

    (tmp_path / "mine[1].py").write_text(
        "import numpy as np\nimport test_conformance as theirs\n"
        "def route(votes, *, depth=4):\n    return theirs.ROUTE(votes, depth)\n"
    )
    argv = ["conformance", "--module", f"{tmp_path}/mine[1].py:route"]
    assert main(argv) == 2
    assert "how to call it" in capsys.readouterr().err
    assert main([*argv, "--call", "f(votes, depth=r)"]) == 0
    assert "mine[1].py:route: routing of numpy, called as f(votes, depth=r)" in (
        capsys.readouterr().out.replace("\n", "")
    )
    assert main([*argv, "--call", "f(votes, depth=r)", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["conforms"], found["frameworks"]) == (True, ["numpy"])
