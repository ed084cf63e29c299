"""bfloat16 for convolutions and decoder; master weights, routing and losses stay in float32."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import wings
from specs import KINDS, NETWORKS, PRIMES
from wings import difference

from parity import reference
from parity.compare.subject import ragged
from parity.spec import NetworkSpec, TrainingSpec
from parity.spec.networks import MatrixInit
from parity.weights import Arrays, draw, state

# A bfloat16 has 8 bits: one rounding is up to 2**-9 = 2.0e-3 of a number. Of gradients the whole
# tensor is measured: a relu that rounding puts on the other side of 0 changes single elements.
VALUES, GRADIENTS = 1e-2, 5e-2
LOW = ("stem.",)  # tapped tensors in bfloat16; all others are in float32
CASES = {name: NETWORKS[name] for name in ("primes", "official", "no decoder")}


def batch(spec: NetworkSpec) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    images = rng.random((11, *spec.image)).astype(np.float32)
    return images, rng.integers(0, spec.classes, 11)


def weights(spec: NetworkSpec) -> Arrays:
    """A random number in every place."""
    return {name: array.astype(np.float32) for name, array in ragged(spec, 3).items()}


@functools.cache
def traced(name: str, case: str, precision: str) -> tuple[Arrays, Arrays]:
    wing, spec = wings.load(name), CASES[case]
    net = wing.CapsuleNetwork(spec, 3, precision)
    wing.weights.from_numpy(net, weights(spec))
    return wing.tracing.trace(net, *batch(spec))


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """The norm of the difference over that of `b`."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b)) if b.any() else float(a.any())


def agree(ours: tuple[Arrays, Arrays], theirs: tuple[Arrays, Arrays]) -> None:
    for a, b, measure, allowed in zip(
        ours, theirs, (difference, apart), (VALUES, GRADIENTS), strict=True
    ):
        assert list(a) == list(b)
        found = {name: measure(a[name], b[name]) for name in a}
        worst = max(found, key=found.__getitem__)
        assert found[worst] < allowed, worst


@pytest.mark.parametrize("case", wings.wide(CASES, "primes".__eq__))
@pytest.mark.parametrize("name", wings.wide(wings.NAMES, "torch".__eq__))
def test_values_and_gradients_are_those_of_float32_but_for_rounding(name, case):
    agree(traced(name, case, "bfloat16"), traced(name, case, "float32"))


@pytest.mark.parametrize("case", wings.wide(CASES, "primes".__eq__))
def test_both_wings_agree(both_wings, case):
    agree(*(traced(name, case, "bfloat16") for name in wings.PACKAGES))


@pytest.mark.parametrize("name", wings.NAMES)
def test_it_is_bfloat16_where_it_is_promised_and_float32_elsewhere(name):
    values, gradients = traced(name, "primes", "bfloat16")
    full, _ = traced(name, "primes", "float32")
    for key, array in values.items():
        assert str(array.dtype) == ("bfloat16" if key.startswith(LOW) else "float32"), key
    assert {str(array.dtype) for array in gradients.values()} <= {"float32", "bfloat16"}
    held = {key for key in gradients if key.startswith("parameter/")}
    assert {str(gradients[key].dtype) for key in held} == {"float32"}
    # Rounded to 8 bits on the way, which float32 is not.
    assert difference(values["primary.conv"], full["primary.conv"]) > 1e-4
    assert difference(values["reconstruction"], full["reconstruction"]) > 1e-5


@pytest.mark.parametrize("name", wings.NAMES)
def test_routing_of_the_same_poses_is_float32s(name):
    values, _ = traced(name, "primes", "bfloat16")
    kernel = weights(PRIMES)["digit.kernel"].astype(float)
    votes = reference.votes(values["primary.poses"].astype(float), kernel)
    assert difference(values["votes"], votes.astype(np.float32)) < 1e-6


@wings.jax_slow
def test_a_step_too_small_for_bfloat16_is_not_lost(wing):
    training = TrainingSpec(precision="bfloat16", optimizer="sgd", learning_rate=1e-3, momentum=0.0)
    trainer = wing.Trainer(PRIMES, training)
    state = trainer.get_state()
    before = weights(PRIMES)
    trainer.set_state({**state, "weights": before})
    trainer.step(*batch(PRIMES))
    after = trainer.get_state()["weights"]
    moved = {name: np.abs(after[name] - before[name]).max() for name in before}
    for name in ("stem.0.kernel", "primary.kernel"):
        assert after[name].dtype == np.float32
        assert 0 < moved[name] < np.abs(before[name]).max() / 2**9, name


@pytest.mark.parametrize("kind", wings.wide(KINDS, "self_routing".__eq__))
@pytest.mark.skipif("torch" not in wings.NAMES, reason="a pass of JAX takes seconds for each")
def test_norms_and_routings_of_every_kind_are_in_float32(kind):
    wing, spec = wings.load("torch"), KINDS[kind]
    values, _ = wing.tracing.trace(wing.build(spec, 3, "bfloat16"), *batch(spec))
    low = {key for key, array in values.items() if str(array.dtype) == "bfloat16"}
    # A norm takes what a convolution makes in float32; in a stem without norms relu comes next.
    assert low == ({"stem.0"} if kind in ("sabour2017", "matrix") else set())


# Without inverted attention: its norms of poses make so much of bfloat16's rounding that its losses
# move by 2 to 5 %, in both wings.
TRAINED = {kind: spec for kind, spec in KINDS.items() if kind != "inverted"}
TRAINED["sabour2017"] = replace(PRIMES, decoder=(17,))
# The released first betas of EM routing are for millions of steps.
NO_BETAS = MatrixInit(beta_a=0.0, beta_u=0.0, class_beta_a=0.0, class_beta_u=0.0)
TRAINED["matrix"] = replace(KINDS["matrix"], init=NO_BETAS)
# How far a loss of the first 23 steps falls: EM's by 0.6 %, as the first poses say little.
ENDS = {"matrix": 0.995}
# JAX compiles each for 20 seconds: those with a decoder there.
ROWS = [("jax", kind) for kind in ("sabour2017", "efficient", "deepcaps")]
ROWS = [row for row in [*ROWS, *(("torch", kind) for kind in TRAINED)] if row[0] in wings.NAMES]


@pytest.mark.parametrize(
    ("wing", "name"),
    wings.wide(ROWS, lambda *row: row == ("torch", "sabour2017")),
    indirect=["wing"],
)
def test_it_trains_as_float32_does(wing, name):
    losses, spec = {}, TRAINED[name]
    for precision in ("bfloat16", "float32"):
        training = TrainingSpec(precision=precision, learning_rate=2e-3)
        trainer = wing.Trainer(spec, training)
        losses[precision] = [trainer.step(*batch(spec))["loss"] for _ in range(23)]
        after = trainer.get_state()["weights"]
        assert {array.dtype for array in after.values()} == {np.dtype("float32")}
        assert all((after[row] != draw(spec, 0)[row]).any() for row in state(spec))
    assert losses["bfloat16"][-1] < ENDS.get(name, 0.9) * losses["bfloat16"][0]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
