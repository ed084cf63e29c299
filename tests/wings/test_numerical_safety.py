"""Nothing becomes NaN by itself, and what does is named: the step, the tensor, what was saved.

Squash and plain routing at their edges are in test_capsules.py.
"""

import contextlib
import dataclasses
import re

import numpy as np
import pytest
import wings
from specs import NETWORKS, PRIMES
from wings import jax_slow, wide

from parity import loop
from parity.data import from_arrays
from parity.loop import diagnosis
from parity.runs import Run
from parity.runs.disk import RunError
from parity.spec import TrainingSpec

PRECISIONS = [
    "float32",
    "bfloat16",
    pytest.param("float64", marks=pytest.mark.float64),
]
SCALES = [0.0, 1e-30, 1e-10, 1.0, 1e9, 1e18]
QUICK = (0.0, 1e18)
TRAINING = TrainingSpec(batch_size=5, epochs=3, shift=0, learning_rate=0.01)


def images(kind: str, scale: float) -> np.ndarray:
    shape = (2, *PRIMES.image)
    drawn = np.random.default_rng(3).uniform(0, 1, shape)
    return scale * (np.ones(shape) if kind == "constant" else drawn)


@pytest.mark.parametrize("precision", wide(PRECISIONS, "float32".__eq__))
@pytest.mark.parametrize("kind", wide(["random", "constant"], lambda kind: kind == "random"))
@pytest.mark.parametrize("scale", wide(SCALES, QUICK.__contains__))
def test_every_tensor_and_gradient_of_a_network_is_finite(wing, precision, kind, scale):
    net = wing.CapsuleNetwork(NETWORKS["official"], 0, precision)
    dtype = "float64" if precision == "float64" else "float32"
    shown = images(kind, scale).astype(dtype)
    values, gradients = wing.tracing.trace(net, shown, np.array([0, 2]))
    if scale == 1e18:  # the sum of the squares of 429 such pixels is beyond float32, rightly
        values = {name: x for name, x in values.items() if not name.startswith("loss")}
        gradients = {name: gradients[name] for name in values}
    assert diagnosis.named(values, gradients) == ""


@pytest.mark.parametrize("precision", wide(["float32", PRECISIONS[-1]], "float32".__eq__))
@pytest.mark.parametrize("options", [{}, {"leaky": True}, {"num_iters": 1}, {"detach": True}])
@pytest.mark.parametrize("scale", wide(SCALES, QUICK.__contains__))
def test_lean_routing_stays_finite(wing, precision, options, scale):
    draw = np.random.default_rng(0)
    kernel = draw.standard_normal((5, 3, 2, 7)).astype(precision)
    for inputs in (draw.standard_normal((2, 5, 2)), np.ones((2, 5, 2))):
        value, slopes = wings.gradients(
            wing,
            lambda x, k: wing.lean.dynamic(x, k, **options),
            [(scale * inputs).astype(precision), kernel],
        )
        assert all(np.isfinite(each).all() for each in (value, *slopes))


@jax_slow
@pytest.mark.parametrize("zero", ["digit.kernel", "primary.kernel", "decoder.0.kernel"])
def test_a_network_with_a_kernel_of_zeros_has_finite_gradients(wing, zero):
    net = wing.CapsuleNetwork(PRIMES, 0)
    arrays = wing.weights.to_numpy(net)
    wing.weights.from_numpy(net, {**arrays, zero: np.zeros_like(arrays[zero])})
    shown = images("random", 1.0).astype("float32")
    assert diagnosis.named(*wing.tracing.trace(net, shown, np.array([0, 2]))) == ""


def dataset():
    random = np.random.default_rng(4)
    arrays = []
    for count in (23, 7):
        arrays += [random.random((count, *PRIMES.image), np.float32), np.arange(count) % 3]
    return from_arrays(*arrays, name="noise")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kept", wide([False, True], lambda kept: not kept))
@jax_slow
def test_an_exploding_training_names_step_checkpoint_and_tensor(wing, tmp_path, kept):
    """After an epoch that goes well and is saved, or at once."""
    spec = dataclasses.replace(PRIMES, decoder=None)
    trainer = wing.training.Trainer(spec, TRAINING)
    with Run.create(tmp_path / "run", spec, TRAINING) as run:
        if kept:
            loop.train(trainer, dataset(), run, progress=False)
        wild = dataclasses.replace(TRAINING, epochs=9, learning_rate=1e30, optimizer="sgd")
        run.change(wild, run.options)
        trainer = wing.training.Trainer(spec, wild)
        if kept:  # another optimiser than the run began with: its slots begin at 0
            found = run.newest()
            assert found is not None
            slots = {f"sgd.momentum/{n}": np.zeros_like(a) for n, a in found.weights.items()}
            state = {**found.trainer_state, "optimizer": slots}
            run.save(state, epoch=3, cursor=0)
        with pytest.raises(RunError) as told:
            loop.train(trainer, dataset(), run, progress=False)
    said = str(told.value)
    named = re.search(r"the first tensor that is not finite is (\S+) \(.*\), in step (\d+)", said)
    assert named, said
    assert int(named[2]) in ((13, 14, 15) if kept else (1, 2, 3))
    saved = "checkpoint is .*step-00000012" if kept else "there is no checkpoint before it"
    assert re.search(saved, said), said
    assert "--clip-norm 1" in said


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("into", wide(["a run", "none"], "none".__eq__))
@jax_slow
def test_a_fault_of_the_users_own_weights_is_looked_for_from_them(wing, tmp_path, into):
    """Those that the seed draws would train well."""
    spec = dataclasses.replace(PRIMES, decoder=None)
    trainer = wing.training.Trainer(spec, TRAINING)
    state = trainer.get_state()
    state["weights"]["stem.0.kernel"] *= np.float32(1e38)
    trainer.set_state(state)
    place = tmp_path / "run"
    made = Run.create(place, spec, TRAINING) if into == "a run" else contextlib.nullcontext()
    with made as run, pytest.raises(RunError) as told:
        loop.train(trainer, dataset(), run, progress=False)
    said = str(told.value)
    assert re.search(r"first tensor that is not finite is \S+ \(forward\), in step 1;", said), said


def test_the_first_tensor_is_that_of_the_pass_forward_then_backward():
    whole = {name: np.ones(2) for name in ("image", "stem.0", "poses", "parameter/digit.kernel")}

    def spoilt(*names: str) -> dict:
        return {**whole, **{name: np.array([1.0, np.nan]) for name in names}}

    assert diagnosis.named(whole, whole) == ""
    assert diagnosis.named(spoilt("poses", "stem.0"), spoilt("image")) == "stem.0 (forward)"
    assert diagnosis.named(whole, spoilt("image", "stem.0")) == "stem.0 (its gradient)"
    digit = "parameter/digit.kernel"
    assert diagnosis.named(spoilt(digit, "image"), whole) == "digit.kernel (forward)"
    assert diagnosis.named(whole, spoilt(digit)) == "digit.kernel (its gradient)"


def clipped(wing, arrays: list[np.ndarray], norm: float) -> list[np.ndarray]:
    held = [wings.array(wing, each) for each in arrays]
    result = wing.training.clip(held, norm)
    return [wings.numpy(each) for each in (held if result is None else result)]


@pytest.mark.parametrize("scale", [0.0, 1e-18, 0.3, 7.0, 1e15])
def test_clipping_is_the_same_in_both_wings(both_wings, scale):
    """Below the norm nothing changes; above it, the norm over all elements is that."""
    random = np.random.default_rng(2)
    arrays = [scale * random.standard_normal(shape) for shape in ((3, 5), (7,))]
    arrays = [each.astype("float32") for each in arrays]
    total = np.sqrt(sum(float((each.astype("float64") ** 2).sum()) for each in arrays))
    ours, theirs = (clipped(wing, arrays, 2.5) for wing in both_wings)
    for a, b, before in zip(ours, theirs, arrays, strict=True):
        assert wings.difference(a, b) < 1e-6
        expected = before if total <= 2.5 else before * (2.5 / total)
        np.testing.assert_allclose(a, expected, rtol=1e-5)
