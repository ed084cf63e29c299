"""The verb diff: two models of any framework, and the first tensor in which they differ."""

import importlib
import json
import sys
import textwrap

import numpy as np
import pytest

from parity import diff
from parity.__main__ import main
from parity.diff import layouts
from parity.spec import TwincapsError

torch = pytest.importorskip("torch")
nnx = pytest.importorskip("flax.nnx")
jax = importlib.import_module("jax")
SIZES = {"conv.weight": (5, 3, 3, 2), "conv.bias": (5,), "fc.weight": (7, 70), "fc.bias": (7,)}


def normal(seed, *shape):
    return np.random.Generator(np.random.Philox(seed)).standard_normal(shape).astype(np.float32)


WEIGHTS = {name: normal(n, *shape) for n, (name, shape) in enumerate(SIZES.items())}
IMAGES = normal(11, 2, 7, 3, 3)


class Torch(torch.nn.Module):
    def __init__(self, act="none"):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 5, (3, 2))
        self.act = torch.nn.GELU(act)
        self.fc = torch.nn.Linear(50, 7)
        self.fc2 = torch.nn.Linear(7, 7, bias=False)
        for n, each in enumerate(self.parameters()):
            each.data = torch.tensor(normal(n, *each.shape))

    def forward(self, x):
        x = self.act(self.conv(x)).flatten(1)
        return self.fc2(torch.relu(self.fc(x)))


class Flax(nnx.Module):
    def __init__(self, model, fault=""):
        rngs = nnx.Rngs(0)
        self.first = nnx.Conv(3, 5, (3, 2), padding="VALID", rngs=rngs)
        self.dense = nnx.Linear(50, 7, rngs=rngs)
        self.last = nnx.Linear(7, 7, use_bias=False, rngs=rngs)
        weights = {name: x.detach().numpy() for name, x in model.named_parameters()}
        self.first.kernel[...] = weights["conv.weight"].transpose(2, 3, 1, 0)
        self.first.bias[...] = weights["conv.bias"]
        rows = weights["fc.weight"]
        if fault != "flatten":
            rows = rows.reshape(7, 5, 5, 2).transpose(0, 2, 3, 1).reshape(7, -1)
        self.dense.kernel[...] = rows.T
        self.dense.bias[...] = weights["fc.bias"] * (0 if fault == "bias" else 1)
        square = weights["fc2.weight"]
        self.last.kernel[...] = square if fault == "square" else square.T
        self.fault = fault

    def __call__(self, x):
        x = nnx.gelu(self.first(x), approximate=self.fault == "gelu")
        x = self.dense(x.reshape(x.shape[0], -1))
        if self.fault == "detach":
            x = jax.lax.stop_gradient(x)
        return self.last(nnx.relu(-x if self.fault == "sign" else x))


def compared(fault="", **options):
    model = Torch()
    right = Flax(model, fault)
    inputs = [IMAGES.transpose(0, 3, 1, 2)]
    return diff.models(model, right, inputs, right_inputs=[IMAGES], **options)


def test_a_right_port_is_equal_forward_and_backward():
    report = compared(backward=True)
    assert report.equal, str(report)
    assert report.precision == "float64"
    layout = {row.left: row.layout for row in report.rows}
    assert layout["conv"] == "axes [0, 2, 3, 1]"
    assert "as [2, 5, 10]" in layout["act"], "flattened before the linear layer"
    assert max(row.difference for row in report.rows) < 1e-14
    assert max(row.difference for row in report.gradients) < 1e-13
    assert {"inputs[0]", "conv", "parameter fc.weight"} <= {row.left for row in report.gradients}
    assert 0 < max(row.float32 or 0 for row in report.rows) < 1e-5


@pytest.mark.parametrize(
    ("fault", "module", "kind", "says"),
    [
        ("gelu", "act", "semantic", "right is gelu with tanh"),
        ("flatten", "fc", "axis order", "rows of fc.weight do not follow"),
        ("bias", "fc", "parameter", "fc.bias has no equal on the right"),
        ("sign", "model", "semantic", ""),
        ("square", "fc2", "semantic", ""),
    ],
)
def test_a_fault_is_named_at_its_module(fault, module, kind, says):
    first = compared(fault, precision="float64").first
    assert first is not None
    assert (first.module, first.kind) == (module, kind), first
    assert says in "; ".join(first.facts)


def test_a_gradient_that_is_lost_is_named_where():
    first = compared("detach", precision="float64", backward=True).first
    assert first is not None
    assert first.backward
    assert first.kind == "gradient on one side alone"
    assert first.row.left == "fc"


class Shares(torch.nn.Module):
    """Shares of a whole, which sum to 1 however large each is: nothing depends on `one`."""

    def __init__(self, divided_first, lost=False):
        super().__init__()
        self.one, self.two = torch.nn.Linear(7, 5), torch.nn.Linear(7, 5)
        for n, each in enumerate(self.parameters()):
            each.data = torch.tensor(normal(n, *each.shape))
        self.divided_first, self.lost = divided_first, lost

    def forward(self, x):
        a, y = self.one(x).exp(), self.two(x)
        total = a.sum(1, keepdim=True)
        shares = (a / total / 3).sum(1) if self.divided_first else a.sum(1) / 3 / total[:, 0]
        return (y.detach() if self.lost else y) + shares[:, None]


def test_gradients_that_are_rounding_of_zero_are_no_difference():
    options = {"precision": "float64", "backward": True}
    report = diff.models(Shares(False), Shares(True), [normal(9, 4, 7)], **options)
    assert report.equal, str(report)
    assert {"two", "parameter two.weight"} <= {row.left for row in report.gradients}
    assert "one" not in {row.left for row in report.gradients}
    assert any("rounding of 0" in note and "at one and" in note for note in report.notes)
    # Beside one that is lost it is not taken for rounding.
    first = diff.models(Shares(False), Shares(True, lost=True), [normal(9, 4, 7)], **options).first
    assert first is not None
    assert first.row.left == "two"


@pytest.mark.slow
def test_a_tensor_that_its_module_uses_too_has_the_gradient_of_what_follows():
    """A module returns logarithms and their exponents, of which the exponents alone go on."""

    class Left(torch.nn.Linear):
        def forward(self, x):
            logs = super().forward(x)
            return logs, logs.exp()

    class Right(nnx.Linear):
        def __call__(self, x):
            logs = super().__call__(x)
            return logs, jax.numpy.exp(logs)

    model, right = Left(7, 5), Right(7, 5, rngs=nnx.Rngs(0))
    right.kernel[...] = model.weight.detach().numpy().T
    right.bias[...] = model.bias.detach().numpy()
    report = diff.models(
        torch.nn.Sequential(model), nnx.Sequential(right), [normal(9, 4, 7)],
        left_call=lambda m, x: m(x)[1], right_call=lambda m, x: m(x)[1], backward=True,
    )  # fmt: skip
    assert report.equal, str(report)
    assert {"0[1]", "parameter 0.weight"} <= {row.left for row in report.gradients}


def test_a_random_model_is_said_to_be_random():
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Dropout(0.5))
    first = diff.models(model, model.eval().__class__(*model), [normal(0, 3, 5)]).first
    assert first is None
    model.train()
    first = diff.models(model, torch.nn.Sequential(model[0]), [normal(0, 3, 5)]).first
    assert first is not None
    assert first.kind == "random"
    assert first.facts == ("left: 1 is another number in a second pass of the same model",)


def test_functions_and_records_of_numpy():
    def left(x):
        y = diff.record("half", x / 2)
        return diff.record("root", np.sqrt(np.abs(y)))

    def right(x):
        y = diff.record("halved", x / 2)
        return diff.record("root", np.sqrt(np.abs(y) + 1))

    report = diff.models(left, right, [normal(0, 3, 5)])
    assert report.first is not None
    assert report.first.row.left == "root"
    assert report.first.last is not None
    assert report.first.last.right in ("halved", "half")
    assert diff.models(left, left, [normal(0, 3, 5)]).equal


def test_neither_model_is_changed():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(5)).train()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    diff.models(model, model, [normal(0, 3, 5)])
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())
    assert model[0].weight.dtype == torch.float32


def test_a_trace_goes_elsewhere(tmp_path):
    model = Torch()
    diff.trace(Flax(model), [IMAGES], tmp_path / "right.npz")
    inputs = [IMAGES.transpose(0, 3, 1, 2)]
    assert diff.models(model, tmp_path / "right.npz", inputs).equal
    # What fails leaves the file as it was, and nothing beside it.
    before = (tmp_path / "right.npz").read_bytes()
    for faulty in (lambda x: x.nothing, lambda x: None, tmp_path / "right.npz"):
        with pytest.raises(diff.DiffError):
            diff.trace(faulty, [IMAGES], tmp_path / "right.npz")
    assert (tmp_path / "right.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["right.npz"]
    (tmp_path / "torn.npz").write_bytes((tmp_path / "right.npz").read_bytes()[:-99])
    with pytest.raises(diff.DiffError, match=r"torn.npz: not a whole trace"):
        diff.models(model, tmp_path / "torn.npz", inputs)


PAIR = """
    import numpy as np
    import torch

    def left():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.GELU())

    def right():
        print("not of the report")
        return torch.nn.Sequential(left()[0], torch.nn.GELU("tanh"))

    def inputs():
        return [np.arange(15).reshape(3, 5) / 7]
"""


@pytest.fixture
def pair(tmp_path):
    path = tmp_path / "pair.py"
    path.write_text(textwrap.dedent(PAIR))
    return path


def test_the_verb(pair, capsys):
    assert main(["diff", str(pair), "--precision", "float64"]) == 1
    said = capsys.readouterr().out
    assert "last that agrees   0  " in said
    assert "first difference   1\n" in said
    assert "kind               semantic\n" in said
    assert main(["diff", str(pair), "--json", "--picture", str(pair.with_suffix(".png"))]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["first"]["module"] == "1"
    assert found["first"]["last"]["left"] == "0"
    assert pair.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    # The report is there though the picture is not.
    assert main(["diff", str(pair), "--precision", "float64", "--picture", "a.none"]) == 2
    said = capsys.readouterr()
    assert "first difference   1\n" in said.out
    assert "--picture a.none: cannot be drawn (" in said.err
    pair.write_text(pair.read_text().replace('"tanh"', '"none"'))
    assert main(["diff", str(pair), "--top", "2"]) == 0
    assert "equal: every final output agrees" in capsys.readouterr().out


@pytest.mark.slow
def test_each_side_in_its_own_interpreter(pair, capsys, tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    asked = ["diff", str(pair), "--precision", "float64"]
    assert main([*asked, "--left-python", str(python), "--right-python", str(python)]) == 1
    assert "first difference   1\n" in capsys.readouterr().out
    assert main([*asked, "--left-python", str(tmp_path / "none")]) == 2
    assert "--left-python" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("def right", "def wrong", "has no function right()"),
        ("import torch\n", "import torch, nowhere\n", "it imports nowhere, which is not here"),
        (
            "return torch.nn.Sequential(left()",
            "return 3, (left()",
            "right: tuple; expected a torch",
        ),
        ("(3, 5) / 7", "(5, 3) / 7", "left: 0 raised RuntimeError"),
        (
            "[np.arange(15).reshape(3, 5) / 7]",
            "'fifteen'",
            "left: its inputs are of str; expected a list of arrays",
        ),
    ],
)
def test_a_pair_that_cannot_be_asked(pair, capsys, old, new, says):
    pair.write_text(pair.read_text().replace(old, new))
    assert main(["diff", str(pair)]) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("split", "order"),
    [
        ((5, 7, 3, 2), (0, 2, 3, 1)),
        ((2, 3, 5), (2, 1, 0)),
        ((11, 13), (1, 0)),
        ((2, 2, 2), (1, 2, 0)),
    ],
)
@pytest.mark.parametrize("zeros", [0.0, 0.6])
def test_a_layout_is_found_from_the_numbers(split, order, zeros):
    x = normal(3, *split)
    x[normal(4, *split) < np.quantile(normal(4, *split), zeros)] *= 0
    y = x.transpose(order)
    found = layouts.between(x, y, 1e-9)
    assert isinstance(found, layouts.Layout)
    assert np.array_equal(found.arrange(x, y.shape), y)
    assert np.array_equal(found.back(y, x.shape), x)
    assert found.axes(split, y.shape) is not None


def test_the_same_numbers_in_another_order_are_no_layout():
    x = normal(5, 7, 11)
    assert layouts.between(x, x.reshape(-1)[::-1], 1e-9) is True
    assert layouts.between(x, x + 1, 1e-9) is None


def test_what_is_no_model_is_refused():
    with pytest.raises(TwincapsError, match="right: int; expected a torch"):
        diff.models(np.tanh, 3, [normal(0, 3)])
