"""Somebody else's functions against the oracle: right ones pass, wrong ones are named.

The functions here are written once over `xp`, which is numpy, torch or jax.numpy.
"""

import functools
import importlib
import sys
from typing import Any

import numpy as np
import pytest
import wings

from parity import reference
from parity.conformance import ConformanceError, check_callable
from parity.conformance.judging import TOLERANCE
from parity.conformance.mistakes import CASES, MISTAKES
from parity.spec import ROUTINGS
from parity.traces.measure import difference

NAMESPACES = {"numpy": "numpy", "torch": "torch", "jax": "jax.numpy"}
DIFFERENTIABLE = [name for name in NAMESPACES if name in wings.NAMES]
FRAMEWORKS = ["numpy", *DIFFERENTIABLE]


def namespace(framework: str):
    return importlib.import_module(NAMESPACES[framework])


def constant(x):
    """x, with no gradient through it."""
    if hasattr(x, "detach"):
        return x.detach()
    return importlib.import_module("jax").lax.stop_gradient(x)


# Their functions: right unless told otherwise.


def safe_squash(xp, axis=-1):
    def squash(x):
        square = (x * x).sum(axis=axis, keepdims=True)
        zero = square == 0
        norm = xp.sqrt(xp.where(zero, xp.ones_like(square), square))
        return xp.where(zero, xp.zeros_like(x), x * norm / (1 + square))

    return squash


def naive_squash(xp):
    def squash(x):
        square = (x * x).sum(axis=-1, keepdims=True)
        return square / (1 + square) * x / xp.sqrt(square)

    return squash


def keras_squash(xp, epsilon=1e-7):
    def squash(x):
        square = (x * x).sum(axis=-1, keepdims=True)
        return square / (1 + square) * x / xp.sqrt(square + epsilon)

    return squash


def offset_squash(xp, epsilon=1e-8):
    """The epsilon inside every norm: its gradient at a zero capsule is not 0."""

    def squash(x):
        square = (x * x).sum(axis=-1, keepdims=True) + epsilon
        return square / (1 + square) * x / xp.sqrt(square)

    return squash


def softmax(xp, x, axis):
    powers = xp.exp(x)
    return powers / powers.sum(axis=axis, keepdims=True)


def router(xp, squash=None, over=2, agree="votes", average=False, replace=False, more=0, cut=False):
    squash = squash or safe_squash(xp)

    def routing(votes, num_iters):
        logits = xp.zeros_like(votes[..., 0])
        for t in range(num_iters + more):
            coupling = softmax(xp, logits, over)
            if cut and t == num_iters + more - 1:
                coupling = constant(coupling)
            weighted = coupling[..., None] * votes
            total = weighted.sum(axis=1)
            poses = squash(total)
            if agree == "votes":
                step = (votes * poses[:, None]).sum(axis=-1)
            elif agree == "weighted":
                step = (weighted * poses[:, None]).sum(axis=-1)
            else:
                step = (total * poses).sum(axis=-1)[:, None] + xp.zeros_like(logits)
            if average:
                step = step.mean(axis=0, keepdims=True) + xp.zeros_like(logits)
            logits = step if replace else logits + step
        return poses

    return routing


def loss(xp, power=2, soft=False, down=0.5, over=None, factor=1.0):
    def margin_loss(lengths, onehot):
        lengths = softmax(xp, lengths, 1) if soft else lengths
        short = xp.where(lengths < 0.9, 0.9 - lengths, xp.zeros_like(lengths)) ** power
        long = xp.where(lengths > 0.1, lengths - 0.1, xp.zeros_like(lengths)) ** power
        terms = onehot * short + down * (1 - onehot) * long
        if over == "all":
            return factor * terms.mean()
        if over == "none":
            return factor * terms.sum()
        return factor * terms.sum(axis=1).mean()

    return margin_loss


RIGHT = {"squash": safe_squash, "routing": router, "margin_loss": loss}
AXIS = "squash over the positions or classes (axis 1) instead of each pose"
WRONG = {
    "naive squash": ("squash", naive_squash, {}, ["NaN at a zero capsule"]),
    "squash over positions": ("squash", safe_squash, {"axis": 1}, [AXIS]),
    "epsilon in the root": (
        *("squash", keras_squash, {}),
        ["epsilon in the norm: sqrt(|s|^2 + 1e-07) in the denominator"],
    ),
    "epsilon of float32": (
        *("squash", keras_squash, {"epsilon": float(np.finfo(np.float32).eps)}),
        ["epsilon in the norm: sqrt(|s|^2 + 1.19209e-07) in the denominator"],
    ),
    "epsilon throughout": (
        *("squash", offset_squash, {}),
        ["epsilon in the norm: |s|^2 + 1e-08 for every |s|^2"],
    ),
    "an odd epsilon": (
        *("squash", keras_squash, {"epsilon": 3.7e-9}),
        ["epsilon in the norm, of an unknown size or place"],
    ),
    "softmax over inputs": ("routing", router, {"over": 1}, ["softmax over input capsules"]),
    "averaged": ("routing", router, {"average": True}, ["logits averaged over the batch"]),
    "replaced": ("routing", router, {"replace": True}, ["logits replaced instead of accumulated"]),
    "weighted sum": (
        *("routing", router, {"agree": "sum"}),
        ["agreement uses the weighted sum instead of the votes"],
    ),
    "weighted votes": (
        *("routing", router, {"agree": "weighted"}),
        ["agreement uses the weighted votes instead of the votes"],
    ),
    "too few": ("routing", router, {"more": -1}, ["one routing iteration too few"]),
    "too many": ("routing", router, {"more": 1}, ["one routing iteration too many"]),
    "two at once": (
        *("routing", router, {"over": 1, "average": True}),
        ["softmax over input capsules", "logits averaged over the batch"],
    ),
    "not squared": ("margin_loss", loss, {"power": 1}, ["margin loss not squared"]),
    "softmax of lengths": (
        *("margin_loss", loss, {"soft": True}),
        ["softmax of the lengths before the margin loss"],
    ),
    "mean of all": (
        *("margin_loss", loss, {"over": "all"}),
        ["mean over the classes instead of the sum"],
    ),
    "sum of all": (
        *("margin_loss", loss, {"over": "none"}),
        ["sum over the batch instead of the mean"],
    ),
    "no down weight": (
        *("margin_loss", loss, {"down": 1.0}),
        ["absent classes not weighed down by 0.5"],
    ),
    "a factor": ("margin_loss", loss, {"factor": 0.3}, ["off by a constant factor 0.3"]),
    "the authors' scale": (
        *("margin_loss", loss, {"over": "all", "factor": 0.5}),
        ["mean over the classes instead of the sum", "off by a constant factor 0.5"],
    ),
    "unknown": ("margin_loss", loss, {"power": 3}, []),
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("kind", RIGHT)
def test_right_functions_conform(kind, framework):
    report = check_callable(kind, RIGHT[kind](namespace(framework)))
    assert report.conforms, report.rows
    assert report.mistakes == []
    assert report.frameworks == [framework]
    gradients = [row for row in report.rows if row.tensor == "gradient"]
    assert len(gradients) == (0 if framework == "numpy" else len(CASES[kind]))


@pytest.mark.parametrize(
    ("name", "framework"),
    wings.wide(
        [(name, framework) for name in WRONG for framework in FRAMEWORKS],
        lambda name, framework: framework in FRAMEWORKS[:2],
    ),
)
def test_mistakes_are_named(name, framework):
    kind, function, options, expected = WRONG[name]
    report = check_callable(kind, function(namespace(framework), **options))
    assert not report.conforms
    assert report.mistakes == expected
    assert report.frameworks == [framework]


@pytest.mark.parametrize("framework", wings.wide(DIFFERENTIABLE, "jax".__ne__))
def test_mistakes_of_routing_with_a_wrong_squash(framework):
    xp = namespace(framework)

    def mistakes(**options):
        return check_callable("routing", router(xp, **options)).mistakes

    assert mistakes(squash=naive_squash(xp)) == ["NaN at a zero capsule"]
    over_classes = ["squash over the classes instead of each pose"]
    assert mistakes(squash=safe_squash(xp, axis=1)) == over_classes
    cut = "last iteration's couplings detached"
    assert mistakes(cut=True) == [cut]
    epsilon = "epsilon in the norm: sqrt(|s|^2 + 1e-07) in the denominator"
    assert mistakes(cut=True, squash=keras_squash(xp)) == [cut, epsilon]


@pytest.mark.parametrize("framework", DIFFERENTIABLE)
def test_a_gradient_alone_can_be_wrong(framework):
    """A square root that is masked only afterwards has a NaN gradient and the right value."""
    xp = namespace(framework)

    def squash(x):
        square = (x * x).sum(axis=-1, keepdims=True)
        return x * xp.sqrt(square) / (1 + square)

    report = check_callable("squash", squash)
    assert report.mistakes == ["NaN at a zero capsule"]
    assert [row.tensor for row in report.rows if not row.holds] == ["gradient"]
    report = check_callable("squash", lambda x: constant(safe_squash(xp)(x)))
    assert {row.tensor for row in report.rows if not row.holds} == {"gradient"}
    assert report.mistakes == []


@wings.jax_slow
def test_each_wing_conforms(wing):
    for kind, function, routing in (
        ("squash", wing.capsules.squash, None),
        ("margin_loss", wing.losses.margin, None),
        *(("routing", getattr(wing.routing, name), name) for name in ROUTINGS),
    ):
        report = check_callable(kind, function, routing)
        assert report.conforms, report.rows
        assert report.frameworks == [wing.__name__.removesuffix("_caps")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", MISTAKES)
def test_each_mistake_has_numbers_of_its_own(kind):
    """A row that equals the oracle, or another row, would name nothing."""
    seen = []
    for name, settings in {"no mistake": {}, **MISTAKES[kind]}.items():
        cases = CASES[kind].values()
        answer = [array for case in cases for array in case.values(**settings)]
        answer += [case.gradient(**settings) for case in cases]
        for other, before in seen:
            apart = max(map(difference, answer, before))
            assert apart > 2 * TOLERANCE, f"{name} gives the numbers of {other}"
        seen.append((name, answer))


# Every framework in which a function runs.


@pytest.mark.parametrize("framework", wings.wide(DIFFERENTIABLE, "jax".__ne__))
def test_other_spellings_of_a_right_function_conform(framework):
    """A compiled function, a module's instance and a partial one, beside a plain function."""
    route = router(namespace(framework))
    if framework == "jax":
        jax = importlib.import_module("jax")
        spellings: list[Any] = [
            (jax.jit(route, static_argnames="num_iters"), "f(votes, num_iters=r)"),
            (jax.jit(lambda votes, num_iters=3: route(votes, num_iters)), "f(votes)"),
        ]
    else:
        module = importlib.import_module("torch").nn.Module

        class Router(module):
            def forward(self, u_hat, bias=None, num_iterations=1):
                return route(u_hat, num_iterations)

        spellings = [(Router(), "f(votes, num_iterations=r)")]
    spellings.append((functools.partial(route, num_iters=5), "f(votes, num_iters=r)"))
    for function, convention in spellings:
        report = check_callable("routing", function)
        assert report.conforms, report.rows
        assert (report.frameworks, report.convention) == ([framework], convention)


@pytest.mark.parametrize("kind", RIGHT)
def test_the_oracle_conforms(kind):
    oracle = {
        "squash": reference.squash,
        "routing": reference.routing.dynamic,
        "margin_loss": reference.margin,
    }[kind]
    report = check_callable(kind, oracle)
    assert report.conforms, report.rows
    assert report.frameworks == ["numpy"]


def test_a_function_that_runs_in_several_frameworks_is_held_to_the_oracle_in_each():
    """Operations that arrays of all frameworks have; its gradient is NaN at 0."""

    def squash(x):
        square = (x * x).sum(-1, keepdims=True)
        return x * square**0.5 / (1 + square)

    report = check_callable("squash", squash)
    assert report.frameworks == FRAMEWORKS
    assert not report.conforms
    broken = {(row.framework, row.case, row.tensor) for row in report.rows if not row.holds}
    assert broken == {(name, "a zero capsule", "gradient") for name in DIFFERENTIABLE}
    assert report.mistakes == ["NaN at a zero capsule"]
    assert report.mistakes_by_framework == dict.fromkeys(DIFFERENTIABLE, report.mistakes)
    assert report.left_out == {}


def test_a_right_function_of_several_frameworks_conforms_in_each():
    def squash(x):
        square = (x * x).sum(-1, keepdims=True)
        zero = square == 0
        return x * (1 - zero * 1.0) * (square + zero) ** 0.5 / (1 + square)

    report = check_callable("squash", squash)
    assert report.conforms, report.rows
    assert report.frameworks == FRAMEWORKS


def test_a_framework_in_which_it_raises_is_left_out_with_the_reason():
    def squash(x):
        if isinstance(x, np.ndarray):
            return safe_squash(np)(x)
        raise OSError("only for ndarrays")

    report = check_callable("squash", squash)
    assert report.conforms
    assert report.frameworks == ["numpy"]
    assert report.left_out == dict.fromkeys(DIFFERENTIABLE, "OSError: only for ndarrays")


ROUTE = router(np)


def test_couplings_are_checked_where_they_are_returned():
    def right(votes, num_iters):
        poses = ROUTE(votes, num_iters)
        before = ROUTE(votes, num_iters - 1)
        logits = (votes * before[:, None]).sum(-1)
        if num_iters == 3:
            logits += (votes * ROUTE(votes, 1)[:, None]).sum(-1)
        return poses, softmax(np, logits, 2)

    report = check_callable("routing", right)
    assert report.conforms
    assert {row.tensor for row in report.rows} == {"poses", "couplings"}
    report = check_callable("routing", lambda v, num_iters: (right(v, num_iters)[0], v[..., 0]))
    assert {row.tensor for row in report.rows if not row.holds} == {"couplings"}


@pytest.mark.parametrize(
    ("kind", "function", "said"),
    [
        ("squash", lambda: None, "takes 0 positional arguments"),
        ("squash", lambda x: x.sum(), "returned shapes [()]; expected [(3, 5, 7)]"),
        ("squash", lambda x: None, "returned NoneType, no array of numpy"),
        ("routing", lambda votes, kernel, bias: votes, "missing 2 required positional arguments"),
        ("routing", lambda votes, num_iters: votes[:, 0, :, :, None], "(2, 3, 7, 1)"),
        ("margin_loss", lambda lengths, labels: lengths.sum(0), "returned shapes [(3,)]"),
        ("margin_loss", lambda lengths, labels: None, "returned NoneType, no array of numpy"),
        ("margin_loss", lambda lengths, labels: 1 / 0, "ZeroDivisionError: division by zero"),
        ("margin_loss", lambda lengths, labels: sys.exit(3), "SystemExit: 3"),
    ],
)
def test_what_cannot_be_called_says_how_it_would_be(kind, function, said):
    with pytest.raises(ConformanceError) as caught:
        check_callable(kind, function)
    message = str(caught.value)
    assert said in message
    assert f"could not be called as {kind}; expected f(" in message
    assert "Say how it is called by --call" in message
    assert " in numpy" in message


def test_unknown_kind():
    with pytest.raises(ConformanceError, match="kind 'em' is unknown; expected one of squash, r"):
        check_callable("em", print)
