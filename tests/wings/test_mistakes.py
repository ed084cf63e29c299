"""One test for each mistake that popular public code makes, named after it.

`tests/labs/mutants` makes these mistakes on purpose; here is what they must trip over.
"""

import importlib

import numpy as np
import pytest
import wings
from specs import PRIMES

from parity import reference
from parity.data import Split, batches
from parity.spec import TrainingSpec

VOTES = np.random.default_rng(0).standard_normal((3, 11, 5, 7)).astype("float32")


def taps(wing, votes=VOTES, **options):
    """Poses, couplings and everything on the way, as NumPy."""
    seen = {}

    def tap(name, x):
        seen[name] = wings.numpy(x)
        return x

    result = wing.routing.dynamic(wings.array(wing, votes), tap=tap, **options)
    return (*map(wings.numpy, result), seen)


def random_net(wing, spec=PRIMES):
    draw, net = np.random.default_rng(2), wing.CapsuleNetwork(spec, lean=False)
    arrays = wing.weights.to_numpy(net)
    noise = {name: draw.standard_normal(a.shape).astype("float32") for name, a in arrays.items()}
    wing.weights.from_numpy(net, {name: a * 3 + 0.1 * noise[name] for name, a in arrays.items()})
    images = draw.random((2, *spec.image), dtype="float32")
    return net, images, np.array([2, 1])


def test_softmax_over_the_inputs_instead_of_the_outputs(wing):
    for r in (1, 2, 3):
        _, coupling, _ = taps(wing, num_iters=r)
        np.testing.assert_allclose(coupling.sum(2), 1, rtol=1e-5)
    assert np.abs(coupling.sum(1) - 1).max() > 0.1


def test_primary_capsules_by_a_plain_view(wing):
    """A capsule is `size` channels at one place; places and types in (height, width, type)."""
    height, width, types, size = 3, 5, 2, 7
    place = np.arange(height * width).reshape(height, width, 1)
    maps = (place * 100 + np.arange(types * size)).astype("float32")[None]
    poses = wings.numpy(wing.layers.primary_poses(wings.array(wing, maps), types))
    assert poses.shape == (1, height * width * types, size)
    for i, pose in enumerate(poses[0]):
        first = (i // types) * 100 + (i % types) * size
        np.testing.assert_array_equal(pose, np.arange(first, first + size))


@wings.jax_slow
def test_squash_over_the_positions_or_over_the_classes(wing):
    """A capsule's squashed length depends on its own vector alone: n^2 / (1 + n^2)."""
    values, _ = wing.tracing.trace(*random_net(wing))
    raw = values["primary.conv"].reshape(values["primary.poses"].shape)
    last = f"routing.{PRIMES.routing.num_iters - 1}"
    for before, after in (
        (raw, values["primary.poses"]),
        (values[f"{last}.sum"], values[f"{last}.poses"]),
    ):
        square = (before.astype("float64") ** 2).sum(-1)
        np.testing.assert_allclose(np.linalg.norm(after, axis=-1), square / (1 + square), rtol=1e-5)


def test_logits_averaged_over_the_batch(wing):
    poses, coupling, _ = taps(wing)
    for b in range(len(VOTES)):
        alone_poses, alone_coupling, _ = taps(wing, VOTES[b : b + 1])
        assert wings.difference(alone_poses[0], poses[b]) < 1e-5
        assert wings.difference(alone_coupling[0], coupling[b]) < 1e-5


def test_logits_replaced_instead_of_accumulated(wing):
    _, _, seen = taps(wing, num_iters=4)
    total = 0
    for t in range(3):
        total = total + np.einsum("bijd,bjd->bij", VOTES, seen[f"routing.{t}.poses"])
        assert wings.difference(seen[f"routing.{t + 1}.logits"], total) < 1e-5


def test_agreement_with_the_weighted_sum_instead_of_the_votes(wing):
    _, _, seen = taps(wing, num_iters=2)
    wrong = np.einsum("bjd,bjd->bj", seen["routing.0.sum"], seen["routing.0.poses"])
    logits = seen["routing.1.logits"]
    assert logits.std(1).min() > 0.1  # differs from input to input
    assert wings.difference(logits, np.broadcast_to(wrong[:, None], logits.shape)) > 0.1


def test_margin_loss_not_squared(wing):
    lengths = np.array([[0.4, 0.3, 0.05]], "float32")
    loss = wing.losses.margin(wings.array(wing, lengths), wings.array(wing, np.array([0], "int32")))
    assert float(loss) == pytest.approx(0.5**2 + 0.5 * 0.2**2, rel=1e-5)


@wings.jax_slow
def test_reconstruction_weight_off_by_78_or_784(wing):
    """The sum of an image's squared errors, not their mean, and 0.0005 of it in the loss."""
    images = np.full((2, 28, 28, 1), 0.5, "float32")
    error = wing.losses.reconstruction(
        wings.array(wing, np.zeros_like(images)), wings.array(wing, images)
    )
    assert float(error) == pytest.approx(784 * 0.25)
    values, _ = wing.tracing.trace(*random_net(wing))
    weighed = 0.0005 * values["loss.reconstruction"]
    assert values["loss"] - values["loss.margin"] == pytest.approx(weighed, rel=1e-3)


@wings.jax_slow
def test_softmax_of_the_lengths_before_the_margin_loss(wing):
    perfect = np.array([[0.95, 0.02, 0.1]], "float32")
    loss = wing.losses.margin(wings.array(wing, perfect), wings.array(wing, np.array([0], "int32")))
    assert float(loss) == 0
    net, images, labels = random_net(wing)
    values, _ = wing.tracing.trace(net, images, labels)
    expected = reference.margin(reference.lengths(values["routing.2.poses"]), labels)
    assert values["loss.margin"] == pytest.approx(expected, rel=1e-5)


@wings.jax_slow
def test_nan_at_a_zero_capsule(wing):
    """A black image through a network without biases makes every capsule zero."""
    trainer = wing.training.Trainer(PRIMES, TrainingSpec(batch_size=2))
    state = trainer.get_state()
    for name in state["weights"]:
        if name.endswith("bias"):
            state["weights"][name][:] = 0
    trainer.set_state(state)
    black, labels = np.zeros((2, *PRIMES.image), "float32"), np.array([0, 1])
    values, gradients = wing.tracing.trace(trainer.net, black, labels)
    assert not values["primary.poses"].any()
    for name, array in gradients.items():
        assert np.isfinite(array).all(), name
    for _ in range(2):
        assert np.isfinite(trainer.step(black, labels)["loss"])
    for name, array in trainer.get_state()["weights"].items():
        assert np.isfinite(array).all(), name


def largest_tensor(wing, function, arrays):
    """Elements of the largest tensor that `function` and its gradient compute."""
    if wing.__name__ == "torch_caps":
        torch = importlib.import_module("torch")
        dispatch = importlib.import_module("torch.utils._python_dispatch")
        sizes = [0]

        class Watch(dispatch.TorchDispatchMode):
            def __torch_dispatch__(self, op, types, args=(), kwargs=None):
                out = op(*args, **(kwargs or {}))
                sizes.extend(
                    x.numel()
                    for x in (out if isinstance(out, tuple | list) else [out])
                    if isinstance(x, torch.Tensor)
                )
                return out

        inputs = [wings.array(wing, x).requires_grad_() for x in arrays]
        with Watch():
            function(*inputs).sum().backward()
        return max(sizes)
    jax, core = (importlib.import_module(name) for name in ("jax", "jax.extend.core"))

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            yield from (int(np.prod(v.aval.shape)) for v in equation.outvars)
            for inner in core.jaxprs_in_params(equation.params):
                yield from walk(inner)

    slope = jax.grad(lambda *x: function(*x).sum(), argnums=(0, 1))
    return max(walk(jax.make_jaxpr(slope)(*arrays).jaxpr))


def test_the_kernel_copied_for_every_sample_of_the_batch(wing):
    batch, inputs, outputs, size, pose = 13, 11, 5, 17, 7
    draw = np.random.default_rng(0)
    poses = draw.standard_normal((batch, inputs, size)).astype("float32")
    kernel = draw.standard_normal((inputs, outputs, size, pose)).astype("float32")
    assert largest_tensor(wing, wing.capsules.votes, [poses, kernel]) < batch * kernel.size / 2
    copied = lambda u, w: (u[:, :, None, :, None] * w[None]).sum(3)  # noqa: E731
    assert largest_tensor(wing, copied, [poses, kernel]) == batch * kernel.size


def test_test_images_augmented():
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (7, 5, 3, 1), dtype="uint8")
    split = Split(images, np.arange(7) % 3)
    seen = np.concatenate([b.images[b.weights > 0] for b in batches.evaluation(split, 3)])
    np.testing.assert_array_equal(seen, images.astype("float32") / 255)


def test_images_normalised_under_a_sigmoid():
    """What the decoder is compared with lies in [0, 1], in training too."""
    images = np.full((7, 5, 3, 1), 255, "uint8")
    images[:, ::2] = 0
    spec = TrainingSpec(batch_size=7)
    [batch] = batches.training(Split(images, np.arange(7) % 3), spec, 0)
    assert batch.images.min() == 0
    assert batch.images.max() == 1
