"""The golden vectors of tests/golden: the oracle gives them, and each wing those of a network."""

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


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


@pytest.fixture(params=PRECISIONS)
def precision(request: pytest.FixtureRequest) -> str:
    return request.param


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
    # Those of other code: README.md has them.
    theirs = ("efficient_", "self_routing", "em_", "vb_", "inverted_", "deepcaps_")
    ours = {path.stem for path in GOLDEN.glob("*.npz") if not path.stem.startswith(theirs)}
    assert ours == set(make_golden.FILES)


@pytest.mark.parametrize("lean", wings.wide([True, False], bool))
@pytest.mark.parametrize("name", wings.wide(make_golden.NETWORKS, "network-options".__eq__))
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
