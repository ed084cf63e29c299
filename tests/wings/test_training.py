"""Trainers: the optimisers against their formulas, one wing against the other, state to and fro."""

from dataclasses import replace

import numpy as np
import pytest
import wings
from specs import NETWORKS, PRIMES, QUICK

from parity import schedule
from parity.spec import OPTIMIZERS, TrainingSpec
from parity.weights import SLOTS, WeightsError

PRECISIONS = [
    pytest.param("float32", id="float32"),
    pytest.param("float64", id="float64", marks=pytest.mark.float64),
]
BATCH = 8


def batches(count, spec=PRIMES, seed=0):
    draw = np.random.default_rng(seed)
    for _ in range(count):
        images = draw.random((BATCH, *spec.image), dtype="float32")
        yield images, draw.integers(spec.classes, size=BATCH)


def training(optimizer="adam", precision="float32", **changes):
    rate = 0.01 if optimizer == "sgd" else 2e-3
    spec = TrainingSpec(optimizer=optimizer, precision=precision, learning_rate=rate, decay_steps=7)
    return replace(spec, seed=3, **changes)


def formula(spec, state, gradients):
    """The state after a step, from the published update rules, in float64."""
    step, rate = state["step"], schedule.learning_rate(spec, state["step"])
    slots, weights = dict(state["optimizer"]), {}
    if spec.clip_norm is not None:
        norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
        gradients = {name: g * min(1, spec.clip_norm / norm) for name, g in gradients.items()}
    for name, g in gradients.items():
        p = state["weights"][name].astype("float64")
        if spec.l2_of == "all" or name.endswith(".kernel"):
            g = g + spec.l2 * p  # the weight decay in the gradient, after the clipping
        if spec.optimizer == "sgd":
            direction = spec.momentum * slots[f"sgd.momentum/{name}"].astype("float64") + g
            slots[f"sgd.momentum/{name}"] = direction
        else:
            m, v = (slots[f"adam.{x}/{name}"].astype("float64") for x in "mv")
            m = spec.beta1 * m + (1 - spec.beta1) * g
            v = spec.beta2 * v + (1 - spec.beta2) * g**2
            slots[f"adam.m/{name}"], slots[f"adam.v/{name}"] = m, v
            m_hat, v_hat = m / (1 - spec.beta1 ** (step + 1)), v / (1 - spec.beta2 ** (step + 1))
            direction = m_hat / (np.sqrt(v_hat) + spec.epsilon)
            if spec.epsilon_hat:  # as Keras writes it
                factor = np.sqrt(1 - spec.beta2 ** (step + 1)) / (1 - spec.beta1 ** (step + 1))
                direction = factor * m / (np.sqrt(v) + spec.epsilon)
        if spec.optimizer == "adamw":
            direction = direction + spec.weight_decay * p
        weights[name] = p - rate * direction
    return {"step": step + 1, "weights": weights, "optimizer": slots}


def random_state(trainer, seed=1):
    """A state in the middle of a run, with a random value in every place."""
    draw = np.random.default_rng(seed)
    state = trainer.get_state()
    state["step"] = 5
    for name, array in state["optimizer"].items():
        noise = draw.standard_normal(array.shape) * 1e-2
        state["optimizer"][name] = (noise**2 if "adam.v" in name else noise).astype("float32")
    for name, array in state["weights"].items():  # biases too, which begin at 0
        state["weights"][name] = array + 1e-2 * draw.standard_normal(array.shape)
    return state


@pytest.mark.float64
@pytest.mark.parametrize(
    ("clip_norm", "hat"),
    wings.wide([(None, True), (1e-3, False), (1e3, True)], lambda norm, hat: norm == 1e-3),
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_is_the_published_formula(wing, optimizer, clip_norm, hat):
    of = "all" if hat else "kernels"
    how = {"clip_norm": clip_norm, "epsilon_hat": hat, "l2": 0.03, "l2_of": of}
    spec = training(optimizer, "float64", **how)
    trainer = wing.training.Trainer(PRIMES, spec, lean=False)
    [(images, labels)] = batches(1)
    before = random_state(trainer)
    trainer.set_state(before)
    _, slopes = wing.tracing.trace(trainer.net, images.astype("float64"), labels)
    gradients = {name: slopes[f"parameter/{name}"] for name in before["weights"]}
    trainer.step(images, labels)
    after, expected = trainer.get_state(), formula(spec, before, gradients)
    assert after["step"] == 6
    for part in ("weights", "optimizer"):
        assert after[part].keys() == expected[part].keys()
        for name, array in expected[part].items():
            assert wings.difference(after[part][name], array) < 1e-11, name


@pytest.mark.float64
@pytest.mark.parametrize("optimizer", wings.wide(OPTIMIZERS, "adamw".__eq__))
def test_float32_stays_float32_where_64_bit_types_are_on(wing, optimizer):
    """One strong float64 number in a formula would make all weights float64 after a step."""
    spec = training(optimizer, ema=0.9, clip_norm=1e-3, l2=0.03, epsilon_hat=optimizer == "adam")
    trainer = wing.training.Trainer(PRIMES, spec)
    for images, labels in batches(2):
        trainer.step(images, labels)
    state = trainer.get_state()
    for part in ("weights", "optimizer"):
        assert {array.dtype.name for array in state[part].values()} == {"float32"}


@wings.jax_slow
@pytest.mark.parametrize("hat", [False, True])
@pytest.mark.parametrize("optimizer", wings.wide(["adam", "adamw"], "adam".__eq__))
def test_the_first_bias_correction_is_accurate_in_float32(wing, optimizer, hat):
    """Off by 1.3e-5 where 1 - beta**t is computed in float32.

    Keras' epsilon is as large as some of the gradients, so its place decides how far they go.
    """
    spec = training(optimizer, weight_decay=0.0, epsilon_hat=hat, epsilon=1e-4 if hat else 1e-8)
    trainer = wing.training.Trainer(PRIMES, spec)
    before = trainer.get_state()
    trainer.step(*next(batches(1)))
    after = trainer.get_state()
    for name, p in before["weights"].items():
        m, v = (after["optimizer"][f"adam.{x}/{name}"].astype("float64") for x in "mv")
        m_hat, v_hat = m / (1 - spec.beta1), v / (1 - spec.beta2)
        moved = spec.learning_rate * m_hat / (np.sqrt(v_hat) + spec.epsilon)
        if hat:
            factor = np.sqrt(1 - spec.beta2) / (1 - spec.beta1)
            moved = spec.learning_rate * factor * m / (np.sqrt(v) + spec.epsilon)
        new = after["weights"][name]
        # a float32 weight can only move by whole steps of its own spacing; a bias begins at 0
        spacing = np.spacing(np.maximum(np.abs(p), np.abs(new)))
        assert (np.abs(p.astype("float64") - new - moved) <= 2e-6 * np.abs(moved) + spacing).all()


def losses(wing, spec, count, network=PRIMES, lean=True):
    trainer = wing.training.Trainer(network, spec, lean=lean)
    return [trainer.step(*batch)["loss"] for batch in batches(count, network)], trainer


@pytest.mark.float64
@pytest.mark.parametrize(
    "name",
    wings.wide(
        ["primes", "leaky bias detach", "official", "three stem layers"], QUICK.__contains__
    ),
)
def test_ten_losses_agree_in_float64(both_wings, name):
    spec = training(precision="float64")
    (torch, _), (jax, _) = (losses(wing, spec, 10, NETWORKS[name]) for wing in both_wings)
    np.testing.assert_allclose(torch, jax, rtol=1e-9)


@pytest.mark.float64
@pytest.mark.parametrize("optimizer", wings.wide(OPTIMIZERS, "adamw".__eq__))
def test_a_hundred_steps_agree_in_float64(both_wings, optimizer):
    spec = training(optimizer, "float64")
    (_, torch), (_, jax) = (losses(wing, spec, 100) for wing in both_wings)
    torch, jax = torch.get_state(), jax.get_state()
    for part in ("weights", "optimizer"):
        for name, array in torch[part].items():
            assert wings.difference(array, jax[part][name]) < 1e-9, name


def test_the_first_loss_and_ten_sgd_steps_agree_in_float32(both_wings):
    runs = [losses(wing, training("sgd"), 10) for wing in both_wings]
    (torch_losses, torch), (jax_losses, jax) = runs
    assert abs(torch_losses[0] - jax_losses[0]) < 1e-5 * torch_losses[0]
    torch, jax = torch.get_state()["weights"], jax.get_state()["weights"]
    for name, array in torch.items():
        assert wings.difference(array, jax[name]) < 2e-5, name


def test_the_same_run_twice_has_the_same_bits(wing):
    first, second = (losses(wing, training(), 5) for _ in range(2))
    assert first[0] == second[0]
    for name, array in first[1].get_state()["weights"].items():
        np.testing.assert_array_equal(array, second[1].get_state()["weights"][name])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_state_goes_on_bit_for_bit_in_the_same_wing(wing, optimizer):
    spec, data = training(optimizer), list(batches(6))
    whole, first, second = (wing.training.Trainer(PRIMES, spec) for _ in range(3))
    for batch in data:
        whole.step(*batch)
    for batch in data[:3]:
        first.step(*batch)
    second.set_state(first.get_state())
    for batch in data[3:]:
        second.step(*batch)
    a, b = whole.get_state(), second.get_state()
    assert a["step"] == b["step"] == 6
    for part in ("weights", "optimizer"):
        for name, array in a[part].items():
            np.testing.assert_array_equal(array, b[part][name], name)


@pytest.mark.float64
@pytest.mark.parametrize("optimizer", wings.wide(OPTIMIZERS, "adamw".__eq__))
@pytest.mark.parametrize("direction", [1, -1])
def test_a_state_goes_on_in_the_other_wing(both_wings, optimizer, direction):
    how = {"clip_norm": 0.7, "l2": 0.03, "l2_of": "kernels"}
    spec, data = training(optimizer, "float64", **how), list(batches(8))
    source, target = both_wings[::direction]
    whole, first = (source.training.Trainer(PRIMES, spec) for _ in range(2))
    second = target.training.Trainer(PRIMES, spec)
    for n, batch in enumerate(data):
        whole.step(*batch)
        (first if n < 4 else second).step(*batch)
        if n == 3:
            second.set_state(first.get_state())
    a, b = whole.get_state(), second.get_state()
    for part in ("weights", "optimizer"):
        for name, array in a[part].items():
            assert wings.difference(array, b[part][name]) < 1e-9, name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_new_state_has_every_slot_at_zero(wing, optimizer):
    state = wing.training.Trainer(PRIMES, training(optimizer)).get_state()
    assert state["step"] == 0
    names = {f"{slot}/{name}" for slot in SLOTS[optimizer] for name in state["weights"]}
    assert state["optimizer"].keys() == names
    assert not any(array.any() for array in state["optimizer"].values())


def test_a_state_that_does_not_fit_changes_nothing(wing):
    trainer = wing.training.Trainer(PRIMES, training())
    trainer.step(*next(batches(1)))
    before = trainer.get_state()
    state = random_state(trainer)
    state["optimizer"]["adam.m/digit.kernel"] = state["optimizer"].pop("adam.v/digit.kernel").T
    state["optimizer"]["sgd.momentum/digit.kernel"] = np.zeros(3, "float32")
    with pytest.raises(WeightsError) as raised:
        trainer.set_state(state)
    for fault in ("missing adam.v/digit.kernel", "unexpected sgd.momentum", "adam.m/digit.kernel"):
        assert fault in str(raised.value)
    after = trainer.get_state()
    assert after["step"] == 1
    for part in ("weights", "optimizer"):
        for name, array in before[part].items():
            np.testing.assert_array_equal(array, after[part][name])


def test_padding_of_weight_zero_counts_for_nothing(wing):
    trainer = wing.training.Trainer(PRIMES, training())
    [(images, labels)] = batches(1)
    whole = trainer.evaluate(images, labels, np.array([1, 1, 1, 1, 1, 0, 0, 0], "float32"))
    images[5:], labels[5:] = 0.5, 0
    changed = trainer.evaluate(images, labels, np.array([1, 1, 1, 1, 1, 0, 0, 0], "float32"))
    assert whole == changed
    assert whole["count"] == 5
    each = [trainer.evaluate(images, labels, weight)["loss"] for weight in np.eye(8)[:5]]
    np.testing.assert_allclose(sum(each), whole["loss"], rtol=1e-6)


def test_evaluation_changes_nothing(wing):
    trainer = wing.training.Trainer(PRIMES, training())
    [(images, labels)] = batches(1)
    before = trainer.get_state()
    trainer.evaluate(images, labels, np.ones(BATCH, "float32"))
    for name, array in trainer.get_state()["weights"].items():
        np.testing.assert_array_equal(array, before["weights"][name])


def test_the_rate_is_that_of_the_schedule(wing):
    spec = training(minimum_rate=1.9e-3)
    trainer = wing.training.Trainer(PRIMES, spec)
    rates = [trainer.step(*batch)["learning_rate"] for batch in batches(12)]
    assert rates == [schedule.learning_rate(spec, step) for step in range(12)]
    assert rates[0] == 2e-3
    assert rates[-1] == 1.9e-3


def test_training_learns(wing):
    """A batch seen over and over is learnt: the loss falls by half."""
    trainer = wing.training.Trainer(replace(PRIMES, decoder=None), training(learning_rate=0.01))
    [batch] = batches(1)
    seen = [trainer.step(*batch)["loss"] for _ in range(60)]
    assert seen[-1] < seen[0] / 2
