"""Lean routing against the oracle and against plain routing: every option, any block."""

import importlib
import itertools

import numpy as np
import pytest
import wings
from specs import NETWORKS

from parity import reference
from parity.spec import TwincapsError

PRECISIONS = [
    pytest.param("float32", id="float32"),
    pytest.param("float64", id="float64", marks=pytest.mark.float64),
]
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
B, I, J, K, D = 3, 13, 5, 7, 11  # noqa: E741
ALL = [
    {"num_iters": r, "leaky": leaky, "detach": detach, "bias": bias}
    for r, leaky, detach, bias in itertools.product((1, 2, 3, 5), *[(False, True)] * 3)
]
# Rung 1 of the ladder has them all but five iterations.
OPTIONS = wings.wide(ALL, lambda options: options["num_iters"] == 3 and options["bias"])


def case(precision, scale=1.0, inputs=I, batch=B):
    # Votes of about 1: larger ones make routing amplify rounding, plain as well as lean.
    draw = np.random.default_rng(0)
    arrays = [
        draw.standard_normal((batch, inputs, K)) * scale,
        draw.standard_normal((inputs, J, K, D)) * 0.3,
        draw.standard_normal((J, D)) * 0.1,
    ]
    return [a.astype(precision) for a in arrays], draw.standard_normal((batch, J, D)).astype(
        precision
    )


def route(wing, options, block=None, lean=True):
    """A function of inputs, kernel and, with a bias, bias: poses."""
    options = {name: value for name, value in options.items() if name != "bias"}

    def run(inputs, kernel, bias=None):
        if lean:
            return wing.lean.dynamic(inputs, kernel, bias_JD=bias, block=block, **options)
        votes = wing.capsules.votes(inputs, kernel)
        return wing.routing.dynamic(votes, bias_JD=bias, **options)[0]

    return run


def named(options):
    on = [name for name in ("leaky", "detach", "bias") if options[name]]
    return " ".join([f"r={options['num_iters']}", *on])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("options", OPTIONS, ids=named)
def test_values_and_gradients_are_those_of_plain_routing(wing, options, precision):
    arrays, cotangent = case(precision)
    arrays = arrays if options["bias"] else arrays[:2]
    value, slopes = wings.gradients(wing, route(wing, options, block=4), arrays, cotangent)
    plain, expected = wings.gradients(wing, route(wing, options, lean=False), arrays, cotangent)
    assert wings.difference(value, plain) < TOLERANCE[precision]
    for slope, exact in zip(slopes, expected, strict=True):
        assert wings.difference(slope, exact) < TOLERANCE[precision]


@pytest.mark.float64
@pytest.mark.parametrize("options", OPTIONS, ids=named)
def test_values_and_gradients_are_the_oracles(wing, options):
    arrays, cotangent = case("float64")
    arrays = arrays if options["bias"] else arrays[:2]
    value, slopes = wings.gradients(wing, route(wing, options, block=5), arrays, cotangent)
    more = {name: each for name, each in options.items() if name != "bias"}

    def oracle(inputs, kernel, bias=None):
        return reference.routing.dynamic(reference.votes(inputs, kernel), bias_JD=bias, **more)[0]

    assert wings.difference(value, oracle(*arrays)) < 1e-13
    draw = np.random.default_rng(1)
    for n, slope in enumerate(slopes):
        direction = draw.standard_normal(slope.shape)

        def loss(x, n=n):
            return (oracle(*arrays[:n], x, *arrays[n + 1 :]) * cotangent).sum()

        exact = reference.derivative(loss, arrays[n], direction)
        size = np.abs(slope * direction).sum()
        assert abs((slope * direction).sum() - exact) < TOLERANCE["float64"] * size


@pytest.mark.parametrize("block", wings.wide([1, 7, 13, 100, None], (7, None).__contains__))
def test_any_block_gives_the_same(wing, block):
    arrays, cotangent = case("float32")
    options = {"num_iters": 3, "bias": True}
    value, slopes = wings.gradients(wing, route(wing, options, block), arrays, cotangent)
    plain, expected = wings.gradients(wing, route(wing, options, lean=False), arrays, cotangent)
    assert wings.difference(value, plain) < TOLERANCE["float32"]
    for slope, exact in zip(slopes, expected, strict=True):
        assert wings.difference(slope, exact) < TOLERANCE["float32"]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-10, 1e9, 1e18])
def test_zero_tiny_and_huge_inputs_stay_finite(wing, precision, scale):
    (inputs, kernel, _), cotangent = case(precision, scale)
    value, slopes = wings.gradients(wing, route(wing, {}), [inputs, kernel], cotangent)
    for array in (value, *slopes):
        assert np.isfinite(array).all()
    if scale == 0:
        assert not value.any()
        assert not any(slope.any() for slope in slopes)


@pytest.mark.parametrize("name", ["primes", "leaky bias detach", "one iteration"])
@wings.jax_slow
def test_a_network_routes_lean_unless_told_otherwise(wing, name, monkeypatch):
    spec, calls = NETWORKS[name], []
    images = np.random.default_rng(0).random((2, *spec.image), dtype="float32")
    ours = wing.lean.dynamic
    monkeypatch.setattr(wing.lean, "dynamic", lambda *a, **k: calls.append(1) or ours(*a, **k))
    lean = wings.numpy(wing.CapsuleNetwork(spec)(images))
    assert len(calls) == 1
    plain = wings.numpy(wing.CapsuleNetwork(spec, lean=False)(images))
    assert len(calls) == 1
    assert wings.difference(lean, plain) < TOLERANCE["float32"]


def test_fewer_than_one_iteration_is_refused(wing):
    (inputs, kernel, _), _ = case("float32")
    with pytest.raises(ValueError, match="num_iters is 0; expected at least 1"):
        wing.lean.dynamic(wings.array(wing, inputs), wings.array(wing, kernel), num_iters=0)


def test_second_derivatives_are_refused(wing):
    (inputs, kernel, _), _ = case("float32")
    if wing.__name__ == "torch_caps":
        torch = importlib.import_module("torch")
        u, w = (wings.array(wing, x).requires_grad_() for x in (inputs, kernel))
        poses = wing.lean.dynamic(u, w)
        (slope,) = torch.autograd.grad(poses.sum(), u, create_graph=True)
        with pytest.raises(TwincapsError, match=r"second derivatives.*lean=False"):
            (slope**2).sum().backward()
        return
    jax = importlib.import_module("jax")

    def penalty(u):
        return (jax.grad(lambda u: wing.lean.dynamic(u, kernel).sum())(u) ** 2).sum()

    with pytest.raises(TwincapsError, match=r"second derivatives.*lean=False"):
        jax.grad(penalty)(inputs)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # by torch itself
def test_forward_derivatives_are_refused(wing):
    (inputs, kernel, _), _ = case("float32")
    if wing.__name__ == "torch_caps":
        torch = importlib.import_module("torch")
        u, w = wings.array(wing, inputs), wings.array(wing, kernel)
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(u, u)
            with pytest.raises(TwincapsError, match=r"forward-mode.*lean=False"):
                wing.lean.dynamic(dual, w)
        return
    jax = importlib.import_module("jax")
    with pytest.raises(TwincapsError, match=r"forward-mode.*lean=False"):
        jax.jvp(lambda u: wing.lean.dynamic(u, kernel), (inputs,), (inputs,))


def transforms(wing):
    """(vmap, grad, jacrev, forward over reverse) of a wing's framework."""
    if wing.__name__ == "torch_caps":
        func = importlib.import_module("torch").func
        return func.vmap, func.grad, func.jacrev, lambda f: func.jacfwd(func.jacrev(f))
    jax = importlib.import_module("jax")
    return jax.vmap, jax.grad, jax.jacrev, jax.hessian


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # by torch itself
@wings.jax_slow
@pytest.mark.parametrize(
    "what",
    wings.wide(
        ["each image", "each kernel", "gradients of each image", "rows"], "each image".__eq__
    ),
)
def test_functional_transforms_give_those_of_plain_routing(wing, what):
    (inputs, kernel, bias), _ = case("float32")
    vmap, grad, jacrev, _ = transforms(wing)
    u, w, b = (wings.array(wing, x) for x in (inputs, kernel, bias))
    kernels = wings.array(wing, np.stack([kernel, -kernel]))

    def found(lean):
        poses = route(wing, {"leaky": True}, block=4, lean=lean)

        def one(u, w, b):
            return (poses(u[None], w, b) ** 2).sum()

        return {
            "each image": lambda: [vmap(one, (0, None, None))(u, w, b)],
            "each kernel": lambda: [vmap(lambda w: poses(u, w))(kernels)],
            "gradients of each image": lambda: vmap(grad(one, (0, 1, 2)), (0, None, None))(u, w, b),
            "rows": lambda: jacrev(poses, (0, 1, 2))(u, w, b),
        }[what]()

    for ours, plain in zip(found(True), found(False), strict=True):
        assert wings.difference(wings.numpy(ours), wings.numpy(plain)) < TOLERANCE["float32"]


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # by torch itself
def test_functional_derivatives_that_are_not_there_are_refused(wing):
    (inputs, kernel, _), _ = case("float32")
    u, w = wings.array(wing, inputs), wings.array(wing, kernel)
    _, grad, _, hessian = transforms(wing)

    def total(u):
        return wing.lean.dynamic(u, w).sum()

    for twice in (hessian(total), grad(lambda u: (grad(total)(u) ** 2).sum())):
        with pytest.raises(TwincapsError, match=r"lean routing has no .*lean=False"):
            twice(u)


@pytest.mark.skipif("torch" not in wings.NAMES, reason="torch.autocast is torch's alone")
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_autocast_gives_gradients_close_to_those_of_plain_routing(kind, inside):
    """Whether the backward pass is under autocast too or not; as close as these numbers are."""
    torch, wing = importlib.import_module("torch"), wings.load("torch")
    spec = NETWORKS["leaky bias detach"]
    drawn = np.random.default_rng(0)
    images = drawn.random((7, *spec.image), dtype="float32")
    labels = torch.tensor(drawn.integers(0, spec.classes, 7))
    slopes = []
    for lean in (True, False):
        net = wing.CapsuleNetwork(spec, lean=lean)
        with torch.autocast("cpu", getattr(torch, kind)):
            loss, _ = net.loss(images, labels)
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        slopes.append({name: wings.numpy(each.grad) for name, each in net.named_parameters()})
    for name, exact in slopes[1].items():
        assert slopes[0][name].dtype == np.float32
        assert wings.difference(slopes[0][name], exact) < {"bfloat16": 0.03, "float16": 0.004}[kind]


def test_memory_does_not_hold_the_votes(wing):
    """What is kept between the passes, and the largest tensor, are far smaller than the votes."""
    inputs, batch = 997, 61
    (u, w, _), _ = case("float32", inputs=inputs, batch=batch)
    votes = batch * inputs * J * D
    if wing.__name__ == "torch_caps":
        torch, kept = importlib.import_module("torch"), []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
            arrays = [wings.array(wing, x).requires_grad_() for x in (u, w)]
            wing.lean.dynamic(*arrays, block=16)
        extra = sum(x.numel() for x in kept) - u.size - w.size
        assert 0 < extra < votes / 50
        return
    jax = importlib.import_module("jax")

    def temporaries(function):
        slope = jax.jit(jax.grad(lambda u, w: function(u, w).sum(), argnums=(0, 1)))
        return slope.lower(u, w).compile().memory_analysis().temp_size_in_bytes

    lean = temporaries(lambda u, w: wing.lean.dynamic(u, w, block=16))
    plain = temporaries(lambda u, w: wing.routing.dynamic(wing.capsules.votes(u, w))[0])
    assert lean < 4 * votes < plain
