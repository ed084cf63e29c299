"""The golden vectors of tests/golden: the oracle still gives them, and so does each wing."""

import json
from pathlib import Path

import numpy as np
import pytest
import wings
from golden import make_golden

from parity.spec import NetworkSpec, from_dict

GOLDEN = Path(make_golden.__file__).parent
PRECISIONS = [
    pytest.param("float32", id="float32"),
    pytest.param("float64", id="float64", marks=pytest.mark.float64),
]
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}
ROUTINGS = dict(make_golden.routings())


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


@pytest.fixture(params=PRECISIONS)
def precision(request: pytest.FixtureRequest) -> str:
    return request.param


def hold(wing, precision, function, golden, inputs, value, gradients):
    """Check a wing's value and its gradients by `inputs` against those of a golden file."""
    arrays = [golden[name].astype(precision) for name in inputs]
    cotangent = golden.get("cotangent", np.float64(1)).astype(precision)
    got, slopes = wings.gradients(wing, function, arrays, cotangent)
    for what, actual in [(value, got), *zip(gradients, slopes, strict=True)]:
        assert actual.dtype == precision
        assert wings.difference(actual, golden[what]) < TOLERANCE[precision], what


@pytest.mark.parametrize(
    "name", wings.wide(make_golden.FILES, ("squash", "votes", "margin").__contains__)
)
def test_the_oracle_gives_the_golden_file(name):
    golden, again = load(name), make_golden.FILES[name]()
    assert list(golden) == list(again), "run tests/golden/make_golden.py and look at the difference"
    for key, expected in golden.items():
        if expected.dtype.kind == "f":
            assert wings.difference(again[key], expected) < 1e-13, key
        else:
            np.testing.assert_array_equal(again[key], expected, key)


def test_no_file_is_left_over():
    ours = {path.stem for path in GOLDEN.glob("*.npz") if not path.stem.startswith("efficient_")}
    assert ours == set(make_golden.FILES)


@pytest.mark.parametrize("axis", [-1, 1])
def test_squash(wing, precision, axis):
    golden = load("squash")
    names = f"axis={axis}/y", [f"axis={axis}/gradient"]
    hold(wing, precision, lambda x: wing.capsules.squash(x, axis), golden, ["x"], *names)


def test_votes(wing, precision):
    inputs = ["inputs", "kernel"]
    names = [f"gradient/{name}" for name in inputs]
    hold(wing, precision, wing.capsules.votes, load("votes"), inputs, "votes", names)


@pytest.mark.parametrize("name", ROUTINGS)
def test_dynamic(wing, precision, name):
    golden, options = load("dynamic"), dict(ROUTINGS[name])
    inputs = ["votes", "bias"] if options.pop("bias") else ["votes"]

    def route(votes, bias=None):
        return wing.routing.dynamic(votes, bias_JD=bias, **options)

    gradients = [f"{name}/gradient/{x}" for x in inputs]
    first = lambda *arrays: route(*arrays)[0]  # noqa: E731
    hold(wing, precision, first, golden, inputs, f"{name}/poses", gradients)
    _, coupling = route(*(wings.array(wing, golden[x].astype(precision)) for x in inputs))
    expected = golden[f"{name}/coupling"]
    assert wings.difference(wings.numpy(coupling), expected) < TOLERANCE[precision]


@pytest.mark.parametrize("case", ["labels", "several", "options"])
def test_margin(wing, precision, case):
    golden = load("margin")
    targets = wings.array(
        wing, golden["several" if case == "several" else "labels"].astype("int32")
    )
    names = ("positive", "negative", "down_weight", "scale") if case == "options" else ()
    options = {name: float(golden[name]) for name in names}

    def loss(lengths):
        return wing.losses.margin(lengths, targets, **options)

    hold(wing, precision, loss, golden, ["lengths"], f"{case}/loss", [f"{case}/gradient"])


def test_reconstruction(wing, precision):
    golden = load("reconstruction")
    images = wings.array(wing, golden["images"].astype(precision))

    def loss(x):
        return wing.losses.reconstruction(x, images)

    hold(wing, precision, loss, golden, ["reconstructions"], "loss", ["gradient"])


@pytest.mark.parametrize("lean", wings.wide([True, False], bool))
@pytest.mark.parametrize("name", make_golden.NETWORKS)
def test_network(wing, precision, name, lean):
    golden = load(name)
    spec = from_dict(NetworkSpec, json.loads(str(golden["spec"])))
    net = wing.CapsuleNetwork(spec, precision=precision, lean=lean)
    weights = {
        key.removeprefix("weights/"): array.astype(precision)
        for key, array in golden.items()
        if key.startswith("weights/")
    }
    wing.weights.from_numpy(net, weights)
    poses = net(wings.array(wing, golden["images"].astype(precision)))
    decoded = net.reconstruct(poses, wings.array(wing, golden["labels"].astype("int32")))
    for what, actual in {
        f"taps/routing.{spec.routing.num_iters - 1}.poses": poses,
        "taps/lengths": wing.capsules.lengths(poses),
        "taps/reconstruction": decoded,
    }.items():
        assert wings.difference(wings.numpy(actual), golden[what]) < TOLERANCE[precision], what
