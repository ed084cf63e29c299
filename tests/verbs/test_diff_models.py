"""What people give diff: compiled, mapped, in place, in bfloat16, random, or of another world."""

import importlib

import numpy as np
import pytest

from parity import diff

torch = pytest.importorskip("torch")
nnx = pytest.importorskip("flax.nnx")
linen = importlib.import_module("flax.linen")
jax = importlib.import_module("jax")
F = torch.nn.functional
pytestmark = pytest.mark.slow


def normal(seed, *shape):
    return np.random.Generator(np.random.Philox(seed)).standard_normal(shape).astype(np.float32)


X = normal(0, 3, 7)


class Mlp(torch.nn.Module):
    def __init__(self, inplace=False):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = torch.nn.Linear(7, 11), torch.nn.Linear(11, 5)
        self.relu = torch.nn.ReLU(inplace=inplace)

    def forward(self, x):
        return self.two(self.relu(self.one(x)))


class Flax(nnx.Module):
    def __init__(self, model, slope=0.0):
        self.one, self.two = (nnx.Linear(a, b, rngs=nnx.Rngs(0)) for a, b in ((7, 11), (11, 5)))
        for ours, theirs in ((self.one, model.one), (self.two, model.two)):
            ours.kernel[...] = theirs.weight.detach().numpy().T
            ours.bias[...] = theirs.bias.detach().numpy()
        self.slope = slope

    def __call__(self, x):
        return self.two(nnx.leaky_relu(self.one(x), self.slope))


class Linen(linen.Module):
    scan: bool = False

    @linen.compact
    def __call__(self, x):
        return linen.Dense(5, name="b")(jax.nn.relu(linen.Dense(11, name="a")(x)))


def variables(model):
    return {"params": {name: {"kernel": layer.weight.detach().numpy().T,
                              "bias": layer.bias.detach().numpy()}
                       for name, layer in (("a", model.one), ("b", model.two))}}  # fmt: skip


def test_an_in_place_relu_rewrites_nothing():
    report = diff.models(Mlp(inplace=True), Flax(Mlp()), [X], backward=True)
    assert report.equal, str(report)
    assert [row.left for row in report.rows] == ["inputs[0]", "one", "relu", "two"]


@pytest.mark.parametrize("how", ["jit of a call", "jit of a model", "remat"])
def test_a_compiled_model_is_looked_into(how):
    model, wrong = Flax(Mlp()), Flax(Mlp(), slope=0.1)
    ways = {
        "jit of a call": lambda m, x: nnx.jit(lambda m, x: m(x))(m, x),
        "jit of a model": None,
        "remat": lambda m, x: nnx.remat(lambda m, x: m(x))(m, x),
    }

    def given(m):
        return nnx.jit(m) if how == "jit of a model" else m

    assert diff.models(Mlp(), given(model), [X], right_call=ways[how]).equal
    first = diff.models(Mlp(), given(wrong), [X], right_call=ways[how]).first
    assert first is not None
    assert first.module == "relu"
    assert "right is leaky relu with slope 0.1" in "; ".join(first.facts)


def test_a_function_that_closes_over_its_model():
    model = Flax(Mlp())
    report = diff.models(Mlp(), lambda x: model(x), [X])
    assert report.equal
    assert {"one", "two"} <= {row.right for row in report.rows}


@pytest.mark.parametrize("bound", [False, True])
def test_linen(bound):
    model = Mlp()
    right = Linen().bind(variables(model)) if bound else (Linen(), variables(model))
    report = diff.models(model, right, [X], backward=True)
    assert report.equal, str(report)
    assert {"a", "b"} <= {row.right for row in report.rows}
    assert report.gradients


def test_equinox_under_vmap():
    eqx = pytest.importorskip("equinox")
    model = Mlp()
    right = eqx.nn.MLP(7, 5, 11, 1, key=jax.random.key(0))
    for n, layer in enumerate((model.one, model.two)):
        right = eqx.tree_at(
            lambda m, n=n: (m.layers[n].weight, m.layers[n].bias),
            right,
            tuple(jax.numpy.asarray(x.detach().numpy()) for x in (layer.weight, layer.bias)),
        )
    for vmapped in (jax.vmap(right), eqx.filter_vmap(right), jax.jit(jax.vmap(right))):
        report = diff.models(model, vmapped, [X], backward=True)
        assert report.equal, str(report)
        assert {"layers.0", "layers.1"} <= {row.right for row in report.rows}
    assert report.gradients


def test_bfloat16_is_given_its_own_tolerance():
    model = Mlp()
    half = Mlp().to(torch.bfloat16)
    report = diff.models(half, half, [X])
    assert report.equal
    report = diff.models(model, half, X, precision="float32")  # an array alone is the one input
    assert report.equal, str(report)
    assert report.tolerance >= 0.01
    told = diff.models(half, Flax(model), X).first
    assert told is not None
    assert "one.bias has no equal on the right; it is one.bias rounded to bfloat16" in told.facts

    class Inside(Mlp):
        def forward(self, x):
            return self.two(self.relu(self.one(x)).to(torch.bfloat16).to(self.two.weight.dtype))

    first = diff.models(model, Inside(), [X], precision="float64").first
    assert first is not None
    assert first.place == "model, between relu and two"


def test_what_differs_in_float32_alone_is_rounding():
    def left(x):
        return diff.record("sum", (x + 1e5) - 1e5)

    def right(x):
        return diff.record("sum", x * 1.0)

    report = diff.models(left, right, [X])
    assert report.first is not None
    assert report.first.kind == "rounding"
    assert "the left computes more coarsely" in report.first.facts
    assert diff.models(left, right, [X], precision="float64").equal


def test_a_nan_on_one_side_is_named():
    def left(x):
        return diff.record("log", np.log(np.abs(x) + 1e-9))

    def right(x):
        with np.errstate(invalid="ignore"):
            return diff.record("log", np.log(x))

    first = diff.models(left, right, [X], precision="float64").first
    assert first is not None
    assert first.kind == "not finite on one side"
    assert f"of {X.size}" in first.facts[0]


def test_final_outputs_must_agree_in_the_declared_layout():
    x = normal(0, 2, 5, 5)
    first = diff.models(lambda x: x @ x, lambda x: (x @ x).swapaxes(1, 2), [x]).first
    assert first is not None
    assert first.kind == "axis order"
    images = normal(0, 2, 3, 5, 5)
    conv = torch.nn.Conv2d(3, 3, 1)
    right = nnx.Conv(3, 3, (1, 1), rngs=nnx.Rngs(0))
    right.kernel[...] = conv.weight.detach().numpy().transpose(2, 3, 1, 0)
    right.bias[...] = conv.bias.detach().numpy()
    nhwc = [images.transpose(0, 2, 3, 1)]
    assert diff.models(conv, right, [images], right_inputs=nhwc).equal
    turned = diff.models(conv, lambda x: right(x).swapaxes(1, 2), [images], right_inputs=nhwc)
    assert turned.first is not None
    assert turned.first.kind == "axis order"


def test_a_pair_with_nothing_in_common_says_so():
    first = diff.models(Mlp(), Flax(Mlp()), [X], right_inputs=[normal(5, 3, 7)]).first
    assert first is not None
    assert first.kind == "inputs"
    report = diff.models(lambda x: np.sin(x), lambda x: np.exp(x)[:, :2], [X])
    assert report.first is not None
    assert report.first.kind == "shape"


def test_shifts_borders_signs_and_factors_are_told():
    images = normal(0, 2, 3, 11, 13)

    def padded(mode, before=1):
        def f(x):
            pad = ((0, 0), (0, 0), (before, 2 - before), (before, 2 - before))
            y = np.pad(x, pad, mode)
            return diff.record("mean", sum(y[..., n : n + 9, m : m + 11]
                                           for n in range(3) for m in range(3)))  # fmt: skip

        return f

    kinds = {
        "border": (padded("constant"), padded("reflect")),
        "shift": (padded("constant"), padded("constant", before=2)),
        "sign": (np.tanh, lambda x: -np.tanh(x)),
        "scale or offset": (np.tanh, lambda x: 3 * np.tanh(x) + 1),
    }
    for kind, (left, right) in kinds.items():
        first = diff.models(left, right, [images], precision="float64").first
        assert first is not None
        assert first.kind == kind, first


def test_a_dropout_that_was_left_on():
    class Dropped(Mlp):
        def forward(self, x):
            return self.two(F.dropout(self.relu(self.one(x)), 0.5))

    first = diff.models(Mlp(), Dropped().eval(), [X]).first
    assert first is not None
    assert first.kind == "random"
    assert first.facts[0].startswith("right: two")


def test_whole_numbers_and_dicts():
    class Embed(torch.nn.Module):
        def __init__(self, offset):
            super().__init__()
            torch.manual_seed(0)
            self.table, self.offset = torch.nn.Embedding(13, 5), offset

        def forward(self, ids):
            return {"hidden": self.table(ids + self.offset), "mask": ids > 3}

    ids = np.random.default_rng(0).integers(0, 11, (2, 7))
    assert diff.models(Embed(0), Embed(0), [ids]).equal
    first = diff.models(Embed(0), Embed(1), [ids]).first
    assert first is not None
    assert first.kind == "scale or offset"
    assert first.facts == ("right = left + 1",)
