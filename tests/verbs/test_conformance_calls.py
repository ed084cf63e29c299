"""How somebody else's function is called: guessed from its parameters, or said as an expression.

The functions here are right unless their name says otherwise, so that only a wrong call could
accuse them. Theirs are of NumPy, which starts fastest; what is guessed does not depend on it.
"""

import functools

import numpy as np
import pytest
import wings
from test_conformance import loss, namespace, router, safe_squash

from parity.conformance import ConformanceError, check_callable

route = router(np)
each_loss = loss(np)


def margin(lengths, one_hot):
    """Not the mean: the loss of each sample."""
    rows = [each_loss(lengths[n : n + 1], one_hot[n : n + 1]) for n in range(len(lengths))]
    return np.stack(rows)


def norms(poses):
    return np.sqrt((poses * poses).sum(-1))


def hot(labels, lengths):
    return np.eye(lengths.shape[1])[labels]


def wrapped(function):
    """A decorator that hides the names of the parameters."""
    return lambda *args, **more: function(*args, **more)


class Routing:
    def __call__(self, u_hat, router=None, n_iter: int = 2):
        return route(u_hat, n_iter)


ITERATIONS = {
    "routes beside it": (
        lambda v, num_routes=None, num_iterations=3: route(v, num_iterations),
        "f(votes, num_iterations=r)",
    ),
    "a number of routes": (lambda v, num_routes=5, iters=3: route(v, iters), "f(votes, iters=r)"),
    "a routing bias": (lambda v, routing_bias=None, iters=3: route(v, iters), "f(votes, iters=r)"),
    "a switch": (
        lambda v, return_iterates=False, num_iterations=3: route(v, num_iterations),
        "f(votes, num_iterations=r)",
    ),
    "a switch that is a number": (
        lambda v, log_iters=0, num_iters=3: route(v, num_iters),
        "f(votes, num_iters=r)",
    ),
    "a number that counts another thing": (
        lambda v, iter_scale=1, num_routing=3: route(v / iter_scale, num_routing),
        "f(votes, num_routing=r)",
    ),
    "a router": (lambda v, router=None, r=3: route(v, r), "f(votes, r=r)"),
    "num_routing": (lambda v, num_routing=3: route(v, num_routing), "f(votes, num_routing=r)"),
    "camel case": (lambda v, numRoutings=3: route(v, numRoutings), "f(votes, numRoutings=r)"),
    "rounds": (lambda v, temperature=1.0, rounds=3: route(v, rounds), "f(votes, rounds=r)"),
    "None for the usual": (lambda v, n_iter=None: route(v, n_iter or 3), "f(votes, n_iter=r)"),
    "first": (lambda num_iters, votes: route(votes, num_iters), "f(votes=votes, num_iters=r)"),
    "by name alone": (lambda *, u, n: route(u, n), "f(u=votes, n=r)"),
    "an object": (Routing(), "f(votes, n_iter=r)"),
    "partial": (functools.partial(route, num_iters=1), "f(votes, num_iters=r)"),
    "hidden names": (wrapped(lambda v, n_iter: route(v, n_iter)), "f(votes, r)"),
    "none": (lambda v, bias=None: route(v, 3), "f(votes)"),
    "none, by hidden names": (wrapped(lambda v: route(v, 3)), "f(votes)"),
    "routes alone": (lambda v, num_routes=5: route(v, 3), "f(votes)"),
}


FIXED = {
    "four": (lambda v: route(v, 4), ["always 4 routing iterations"]),
    "one": (lambda v: route(v, 1), ["always 1 routing iteration"]),
    "a default that is off by one": (
        lambda v, much=2: route(v, much + 1),
        ["one routing iteration too many"],
    ),
    # The softmax and the agreement are so wrong that the couplings never change.
    "two mistakes that make iterations idle": (
        router(np, over=1, agree="sum"),
        ["softmax over input capsules", "agreement uses the weighted sum instead of the votes"],
    ),
}


@pytest.mark.parametrize("name", FIXED)
def test_a_number_of_iterations_that_is_wrong_is_a_mistake(name):
    function, mistakes = FIXED[name]
    assert check_callable("routing", function).mistakes == mistakes


UNCLEAR = {
    "a number that makes no difference": (
        *("routing", lambda v, num_iterations=3: route(v, 3)),
        "f(votes, num_iterations=r) in numpy: two and three iterations give the same",
    ),
    "a parameter without a meaning": (
        *("routing", lambda v, strength: route(v * strength, 3)),
        "f(votes, r) in numpy: differs from the oracle in a way that is not known",
    ),
    "another default number": (
        *("routing", lambda v, temperature=1: route(v * 2 / temperature, 3)),
        "f(votes) in numpy: differs from the oracle in a way that is not known",
    ),
    "a number of another thing": (
        *("routing", lambda v, routing_step=1: route(v * routing_step, 3)),
        "f(votes) in numpy: conforms",
    ),
    "either order": (
        *("margin_loss", lambda a, b: loss(np, power=3)(a, b)),
        "f(one_hot, lengths) in numpy",
    ),
    "a second number of a squash": (
        *("squash", lambda x, size: safe_squash(np)(x * size * 2)),
        "f(x, -1) in numpy: differs from the oracle in a way that is not known",
    ),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_a_call_that_is_not_sure_is_no_verdict(name):
    kind, function, said = UNCLEAR[name]
    with pytest.raises(ConformanceError) as caught:
        check_callable(kind, function)
    message = str(caught.value)
    assert "it is not clear how it is called" in message
    assert 'by --call (call= in Python), like --call "f(' in message
    assert said in message


TARGETS = {
    "Keras": (lambda y_true, y_pred: margin(y_pred, y_true), "f(one_hot, lengths)"),
    "labels first": (lambda labels, v: margin(v, hot(labels, v)).mean(), "f(labels, lengths)"),
    "one-hot labels": (lambda lengths, labels: margin(lengths, labels), "f(lengths, one_hot)"),
    "poses": (lambda v, y: margin(norms(v), y).mean(), "f(poses, one_hot)"),
    "poses, targets first": (lambda y, v: margin(norms(v), hot(y, v)), "f(labels, poses)"),
    "by name alone": (
        lambda *, target, output: margin(output, target),
        "f(target=one_hot, output=lengths)",
    ),
    "names that say nothing": (lambda a, b: margin(b, a), "f(one_hot, lengths)"),
    "hidden names": (wrapped(lambda y, v: margin(v, y)), "f(one_hot, lengths)"),
    "an option": (lambda x, t, average=True: margin(x, t).mean(), "f(lengths, one_hot)"),
}


@pytest.mark.parametrize("factor", [1, 3])
def test_a_loss_of_each_sample_is_held_by_its_mean_and_gradient(factor):
    xp = namespace(wings.NAMES[0])

    def each(lengths, onehot):
        terms = (loss(xp)(lengths[n : n + 1], onehot[n : n + 1]) for n in range(len(lengths)))
        return factor * xp.stack(list(terms))

    report = check_callable("margin_loss", each)
    assert report.conforms == (factor == 1)
    assert report.mistakes == ([] if factor == 1 else ["off by a constant factor 3"])
    assert {row.tensor for row in report.rows} == {"loss", "gradient"}


AXES = {
    "axis": (lambda x, axis=1: safe_squash(np, axis)(x), "f(x, axis=-1)"),
    "dim": (lambda x, *, dim: safe_squash(np, dim)(x), "f(x, dim=-1)"),
    "capsule_dim": (lambda x, capsule_dim: safe_squash(np, capsule_dim)(x), "f(x, capsule_dim=-1)"),
    "before it": (lambda axis, s: safe_squash(np, axis)(s), "f(s=x, axis=-1)"),
    "hidden": (wrapped(lambda x, axis: safe_squash(np, axis)(x)), "f(x, -1)"),
    "epsilon": (lambda x, epsilon=1e-7: safe_squash(np)(x), "f(x)"),
}


GUESSED = [
    (kind, *row)
    for kind, rows in (("routing", ITERATIONS), ("margin_loss", TARGETS), ("squash", AXES))
    for row in rows.items()
]


@pytest.mark.parametrize(("kind", "name", "case"), GUESSED)
def test_the_call_is_found_by_the_names_of_the_parameters(kind, name, case):
    function, convention = case
    report = check_callable(kind, function)
    assert report.conforms, report.mistakes
    assert report.convention == convention


# Calls that are said.


SAID = {
    "iterations": ("routing", lambda v, a, b: route(v + a, b), "f(votes, 0, b=r)"),
    "iterations alone": ("routing", lambda a, b: route(b, a), " f( r , votes ) "),
    "no number": ("routing", lambda v, n: route(v, n), "f(votes, 3)"),
    "an axis": ("squash", lambda x, where: safe_squash(np, where[0])(x), "f(x, (-1,))"),
    "classes": (
        "margin_loss",
        lambda data, v, y, n: margin(norms(v), np.eye(n)[y]),
        "f(None, poses, y=labels, n=classes)",
    ),
    "a string": ("squash", lambda x, mode: {"usual": safe_squash(np)}[mode](x), "f(x, 'usual')"),
}


@pytest.mark.parametrize("name", SAID)
def test_a_call_that_is_said(name):
    kind, function, call = SAID[name]
    report = check_callable(kind, function, call=call)
    assert report.conforms, report.mistakes
    assert report.convention.replace(" ", "") == call.replace(" ", "")


def test_a_call_that_is_said_is_believed():
    report = check_callable("routing", lambda v, r=3: route(v, 3), call="f(votes, r=r)")
    assert report.mistakes == ["always 3 routing iterations"]


@wings.jax_slow
def test_a_bias_is_said_by_its_name(wing):
    call = "f(votes, num_iters=r, bias_JD=bias_JD)"
    report = check_callable("routing", wing.routing.dynamic, call=call)
    assert report.conforms, report.rows
    plain = check_callable("routing", lambda v, r, b: route(v, r), call="f(votes, r, bias_JD)")
    assert not plain.conforms


@pytest.mark.parametrize(
    ("kind", "call", "said"),
    [
        ("routing", "f(votes, n)", "names n; expected names of votes, r, bias_JD"),
        ("routing", "f(r)", "leaves out votes; expected votes in it"),
        ("margin_loss", "f(lengths)", "leaves out labels and one_hot; expected labels or one_hot"),
        ("squash", "f(votes)", "names votes; expected names of x for a squash"),
        ("squash", "g(x)", "is no call of f"),
        ("squash", "x", "is no call of f"),
        ("squash", "f(x)(x)", "is no call of f"),
        ("squash", "f(x", "is no expression ('(' was never closed"),
        ("squash", "f(x); f(x)", "is no expression"),
        ("squash", "", "is no expression"),
        ("squash", "f(x\0)", "is no expression"),
        ("squash", "f(" + "(" * 999 + "x" + ")" * 999 + ")", "is no expression"),
        ("squash", "f(*x)", "holds *x, no name or literal"),
        ("squash", "f(**x)", "has **"),
        ("squash", "f(x, a=1, a=2)", "has a= twice"),
        ("squash", "f(x + 1)", "holds x + 1, no name or literal"),
        ("squash", "f(x, open('/etc/passwd'))", "holds open('/etc/passwd'), no name or literal"),
        ("squash", "f(x.T)", "holds x.T, no name or literal"),
        ("squash", "f([x])", "holds [x], no name or literal"),
        ("squash", "f(x, lambda: 1)", "holds lambda: 1, no name or literal"),
    ],
)
def test_what_is_no_call(kind, call, said):
    with pytest.raises(ConformanceError) as caught:
        check_callable(kind, lambda *x: pytest.fail("it was called"), call=call)
    assert said in str(caught.value)


def test_a_call_that_is_said_and_does_not_fit():
    with pytest.raises(ConformanceError, match="unexpected keyword argument 'iters'"):
        check_callable("routing", lambda v, n: route(v, n), call="f(votes, iters=r)")
