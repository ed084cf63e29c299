"""Variational Bayes routing: the authors' own numbers, its traps, and what is refused."""

import dataclasses
import functools
import importlib
import json

import numpy as np
import pytest
import wings
from test_efficient import batch, follows_the_oracle, near
from test_golden import GOLDEN
from test_self_routing import random_weights
from weight_files import travels

from parity import reference
from parity.conformance import check_callable
from parity.conformance.activated import MISTAKES, variational_bayes
from parity.reference.routing._em import compete
from parity.reference.routing._variational_bayes import LEAST, digamma
from parity.spec import (
    CapsuleLayer,
    Conv,
    Hinton2018,
    Loss,
    NetworkSpec,
    Norm,
    Pixels,
    Primary,
    Ribeiro2020,
    Routing,
    SpecError,
    TrainingSpec,
    Window,
    from_dict,
    preset,
    to_dict,
)
from parity.weights import state, table

# 17x13 -> 7x5 of 2 types of 2x2 -> 3x2 of 3 types -> three classes
TINY = Ribeiro2020(
    image=(17, 13, 2),
    pixels=Pixels((0.3, 0.4), (0.5, 0.7)),
    stem=(Conv(3, 5, 2),),
    primary=Primary(types=2, size=4, kernel=1, stride=1),
    capsules=(CapsuleLayer(types=3, size=4, stride=2),),
    classes=3,
)
GOLDENS = ("vb_dense", "vb_dense_full", "vb_conv_s1", "vb_conv_s2")
NAMES = ("poses_BHWIK", "activations_BHWI", "kernel_MNIJPP", "beta_a_J", "beta_u_J")
BEFORE = ("means_BYXJD", "logits_BYXJ")
AFTER = ("poses_BYXJD", "activations_BYXJ")
OPTIONS = {"train": True, "keep": 0.9, "epsilon": 1e-5}


def golden(name: str):
    """The inputs of a layer, how it routes, and the file."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        case = dict(file)
    told = json.loads(str(case["options"]))
    window = Window(case["in.poses_BHWIK"].shape[1:3], tuple(told["kernel"]), told["stride"])
    covariance = {"diag": "diagonal", "full": "full"}[told["covariance"]]
    options = {"num_iters": told["num_iters"], "covariance": covariance, "window": window}
    return [case[f"in.{each}"] for each in NAMES], options, case


def layer(tree, options, tap=None):
    """Votes and routing of a layer in a wing or the oracle: (means, logits)."""
    window = options["window"]
    taps = {} if tap is None else {"tap": tap}

    def route(poses, active, kernel, beta_a, beta_u):
        windows = functools.partial(tree.convolution.windows, kernel=window[1], stride=window[2])
        seen, side = windows(poses), kernel.shape[-1]
        count, types = seen.shape[3:5]
        seen = seen.reshape(len(seen), -1, count, types, 1, side, side, 1)
        kernel = kernel.reshape(1, 1, count, types, -1, 1, side, side)
        votes = (seen * kernel).sum(-2)
        votes = votes.reshape(*votes.shape[:2], count * types, votes.shape[4], -1)
        active = windows(active).reshape(votes.shape[:3])
        given = {**options, "beta_a_J": beta_a, "beta_u_J": beta_u, **taps}
        return tree.routing.variational_bayes(votes, active, **given)[:2]

    return route


def after(tree, means, logits, running, options):
    """The norms after a routing: (poses, logits), and the new running numbers of both."""
    poses, *of_poses = tree.norm.batch(means.swapaxes(-1, -2), None, None, *running[:2], **options)
    logits, *of_logits = tree.norm.batch(logits, None, None, *running[2:], **options)
    return poses.swapaxes(-1, -2), logits, (*of_poses, *of_logits)


@pytest.mark.parametrize("name", GOLDENS)
def test_the_oracles_routing_is_the_authors(name):
    given, options, case = golden(name)
    seen = {}

    def tap(key, x):
        seen[key] = x
        return x

    found = layer(reference, options, tap)(*given)
    for output, each in zip(BEFORE, found, strict=True):
        near(each.reshape(case[f"out.{output}"].shape), case[f"out.{output}"], 1e-13, output)
    names = {"assignments": "coupling", "inverse_psi": "inverse_scale"}
    for key, array in case.items():
        if key.startswith("tap.vb.") and key[7].isdigit():
            t, what = key.removeprefix("tap.vb.").split(".")
            shown = seen[f"routing.{t}.{names.get(what, what)}"]
            near(shown.reshape(array.shape), array, 1e-13, key)


@pytest.mark.parametrize("name", GOLDENS)
def test_the_oracles_norms_are_the_authors(name):
    given, options, case = golden(name)
    means, logits = layer(reference, options)(*given)
    ones = np.ones(means.shape[-2])
    first = (0 * ones, ones, 0 * ones, ones)
    running = tuple(
        case[f"out.running_{what}.{of}_J"]
        for of in ("pose", "activation")
        for what in ("mean", "var")
    )
    for head, numbers, train in (("out.", first, True), ("out.eval.", running, False)):
        poses, logit, new = after(reference, means, logits, numbers, {**OPTIONS, "train": train})
        for key, each in zip(AFTER, (poses, reference.sigmoid(logit)), strict=True):
            near(each.reshape(case[head + key].shape), case[head + key], 1e-13, head + key)
        for each, expected in zip(new, running, strict=True):
            near(each, expected, 1e-13, "running numbers")


@pytest.mark.float64
@wings.jax_slow
@pytest.mark.parametrize("name", wings.wide(GOLDENS, "vb_dense_full".__eq__))
def test_each_wings_layer_is_the_authors(wing, name):
    """Gradients before the norms, and after them, where those of betas are rounding."""
    given, options, case = golden(name)
    ones = wings.array(wing, np.ones(case["in.beta_a_J"].shape))
    running = (0 * ones, ones, 0 * ones, ones)
    sigmoid = lambda x: 1 / (1 + 2.718281828459045 ** (-x))  # noqa: E731

    for outputs, head in ((BEFORE, "grad_before_norm"), (AFTER, "grad_after_norm")):
        weights = [wings.array(wing, case[f"weight.{output}"]) for output in outputs]

        def total(*arrays, normed=outputs == AFTER, weights=weights):
            means, logits = layer(wing, options)(*arrays)
            found = means, logits
            if normed:
                poses, logits, _ = after(wing, means, logits, running, OPTIONS)
                found = poses, sigmoid(logits)
            pairs = zip(found, weights, strict=True)
            return sum((each.reshape(weight.shape) * weight).sum() for each, weight in pairs)

        value, slopes = wings.gradients(wing, total, given)
        right = sum((case[f"out.{o}"] * case[f"weight.{o}"]).sum() for o in outputs)
        near(value, right, 1e-13, head)
        largest = max(np.abs(slope).max() for slope in slopes)
        for key, slope in zip(NAMES, slopes, strict=True):
            if outputs == AFTER and key.startswith("beta"):
                assert np.abs(slope).max() < 1e-12 * largest
            else:
                near(slope, case[f"{head}.{key}"], 1e-12, f"{head} {key}")


def network_case():
    """The golden network: its spec, weights and state by our names, and the file."""
    with np.load(GOLDEN / "vb_network.npz") as file:
        case = dict(file)
    told = json.loads(str(case["options"]))
    spec = Ribeiro2020(
        image=(24, 24, 2),
        pixels=Pixels(),
        stem=(Conv(3, 5, 2),),
        primary=Primary(2, 4, 1, 1),
        capsules=(CapsuleLayer(3, 4, 3, 2), CapsuleLayer(2, 4, 3, 1)),
        classes=5,
        released=True,
    )
    parts = {"scale": "weight", "shift": "bias", "mean": "running_mean", "variance": "running_var"}

    def theirs(ours: str) -> str:
        layer, _, part = ours.rpartition(".")
        layer = layer.replace("capsule.2", "class").replace("capsule", "caps")
        layer = layer.replace("stem.0", "stem")
        if layer in ("primary", "primary.norm"):
            layer = layer.replace("primary", "primary.pose")
        elif layer.startswith("activation"):
            layer = f"primary.{layer}"
        elif layer.endswith(".norm") and not layer.endswith(("activation.norm", "stem.norm")):
            layer = layer.replace(".norm", ".pose.norm")
        return f"{layer}.{parts.get(part, part)}"

    names = {name: theirs(name) for name in table(spec)}
    first = {name: np.full(row.shape, row.value) for name, row in table(spec).items()}
    weights = {
        name: case[f"in.{names[name]}"].reshape(array.shape)
        if f"in.{names[name]}" in case
        else array
        for name, array in first.items()
    }
    return spec, names, weights, case, np.array(told["labels"])


def test_the_oracles_network_is_the_authors():
    spec, names, weights, case, labels = network_case()
    images = case["in.images"]
    seen = reference.forward(spec, weights, images, labels, train=True)
    near(seen["capsule.2.activations"], case["out.activations_BJ"], 1e-13, "activations")
    near(seen["loss"], case["out.loss"], 1e-13, "loss")
    for name in state(spec):
        near(seen[name], case[f"out.{names[name]}"], 1e-13, name)
    moved = {**weights, **{name: seen[name] for name in state(spec)}}
    seen = reference.forward(spec, moved, images, labels)
    near(seen["capsule.2.activations"], case["out.eval.activations_BJ"], 1e-13, "evaluation")
    meant = dataclasses.replace(spec, released=False)
    seen = reference.forward(meant, weights, images, labels, train=True)
    near(seen["capsule.2.activations"], case["out.intended.activations_BJ"], 1e-13, "coordinates")


@pytest.mark.float64
@pytest.mark.slow
def test_each_wings_network_is_the_authors(wing):
    spec, names, weights, case, labels = network_case()
    net = wing.build(spec, precision="float64")
    wing.weights.from_numpy(net, weights)
    values, slopes = wing.tracing.trace(net, case["in.images"], labels)
    near(values["loss"], case["out.loss"], 1e-13, "loss")
    near(slopes["image"], case["grad.images"], 1e-12, "images")
    for ours, name in names.items():
        slope = slopes[f"parameter/{ours}"]
        if table(spec)[ours].free:
            assert np.abs(slope).max() < 1e-12 * np.abs(slopes["image"]).max(), ours
        elif f"grad.{name}" in case:
            near(slope, case[f"grad.{name}"].reshape(slope.shape), 1e-12, name)


def test_the_numbers_of_parameters_are_the_codes():
    counts = {"ribeiro2020": 68_714, "ribeiro2020-mnist": 68_404, "ribeiro2020-tiny": 206_154}
    specs = {preset(name): count for name, count in counts.items()}
    first = preset("ribeiro2020")
    specs[dataclasses.replace(first, primary=Primary(16, 16, 1, 1))] = 95_882
    wide = tuple(CapsuleLayer(32, stride=stride) for stride in (2, 1))
    specs[dataclasses.replace(first, primary=Primary(16, 16, 1, 1), capsules=wide)] = 244_682
    for spec, count in specs.items():
        rows = table(spec).values()
        assert sum(np.prod(row.shape) for row in rows if row.trained) == count
    assert first.windows[-1].grid == (4, 4)
    assert preset("ribeiro2020-mnist").windows[-1].grid == (3, 3)
    assert preset("ribeiro2020-tiny").windows[-1].grid == (6, 6)


@pytest.mark.float64
def test_the_derivative_of_digamma_is_right_in_torch():
    """torch's own is off by up to 4.9e-10."""
    torch = importlib.import_module("torch")
    own = importlib.import_module("torch_caps.routing._variational_bayes")
    x = np.concatenate([np.linspace(1, 12, 333), np.logspace(1, 6, 77)])
    right = reference.derivative(digamma, x, np.ones_like(x))
    tensor = torch.tensor(x, requires_grad=True)
    value = own._digamma(tensor)
    (slope,) = torch.autograd.grad(value.sum(), tensor, create_graph=True)
    assert np.abs(wings.numpy(slope) / right - 1).max() < 5e-15
    assert np.abs(wings.numpy(value) - digamma(x)).max() < 1e-14
    (second,) = torch.autograd.grad(slope.sum(), tensor)
    expected = torch.special.polygamma(2, tensor)
    assert wings.difference(wings.numpy(second), wings.numpy(expected)) < 1e-8


def test_digamma_at_its_smallest_argument():
    """(nu - d) / 2 of a parent without children: (D + 1 - (D - 1)) / 2."""
    gamma = 0.57721566490153286
    near(digamma(np.array([1.0, 2.0])), np.array([-gamma, 1 - gamma]), 1e-15, "digamma")
    near(reference.derivative(digamma, 1.0, 1.0), np.pi**2 / 6, 1e-15, "trigamma")


def case32(scale: float, parents: int = 6):
    """Votes in windows, activations and betas in float32."""
    random = np.random.default_rng(0)
    window = Window((4, 5), (2, 3), 1)
    places, children = np.prod(window.places), np.prod(window.kernel) * 2
    votes = scale * random.standard_normal((2, places, children, parents, 16))
    active = random.random((2, places, children))
    given = votes, active, *random.standard_normal((2, parents))
    return window, [each.astype(np.float32) for each in given]


def routed(tree, **options):
    return lambda votes, active, beta_a, beta_u: tree.routing.variational_bayes(
        votes, active, beta_a_J=beta_a, beta_u_J=beta_u, **options
    )


@wings.jax_slow
@pytest.mark.parametrize(
    ("covariance", "scale"),
    wings.wide(
        # A full covariance of larger votes is singular in float32.
        [*(("diagonal", x) for x in (0.0, 1e-3, 100.0, 1e4)), ("full", 0.0), ("full", 100.0)],
        lambda covariance, scale: (covariance, scale) == ("diagonal", 100.0),
    ),
)
def test_float32_stays_finite_and_near_the_oracle(wing, scale, covariance):
    """No mass, no variance, and votes so far apart that densities underflow."""
    window, arrays = case32(scale)
    arrays[1] *= scale > 0
    how = {"window": window, "covariance": covariance}

    def total(*each):
        means, logits, _ = routed(wing, **how)(*each)
        return means.sum() + logits.sum()

    value, slopes = wings.gradients(wing, total, arrays)
    assert np.isfinite(value)
    assert all(np.isfinite(slope).all() for slope in slopes)
    found = routed(wing, **how)(*(wings.array(wing, each) for each in arrays))
    expected = routed(reference, **how)(*arrays)
    for each, right in zip(found[:2], expected, strict=False):
        near(wings.numpy(each), right, 1e-4, "results")


@pytest.mark.parametrize("window", [None, Window((3, 4), (2, 3), 1)])
@wings.jax_slow
def test_the_least_density_divides_assignments(wing, window):
    """Where the sum of powers is below it, assignments sum to less than 1, with its gradient."""
    shape = (2, 1, 5, 3) if window is None else (2, 4, 12, 3)
    logits = np.random.default_rng(0).uniform(-40, -20, shape)
    logits[0] += 15
    own = importlib.import_module(f"{wing.__name__}.routing._em").compete
    right = compete(logits, window, LEAST)
    value, (slope,) = wings.gradients(
        wing, lambda x: own(x, window, LEAST), [logits.astype(np.float32)], right
    )
    near(value, right, 1e-5, "assignments")
    expected = reference.gradient(lambda x: (compete(x, window, LEAST) * right).sum(), logits)
    near(slope, expected, 1e-5, "gradient")
    assert right[0, ..., :].sum() > 0.1
    plain = np.exp(logits[1]) / LEAST
    assert (right[1] <= plain * (1 + 1e-12)).all()
    if window is None:
        total = np.exp(logits[1]).sum(-1)
        near(right[1].sum(-1), np.minimum(total / LEAST, 1), 1e-12, "sums")


@wings.jax_slow
def test_a_window_of_the_whole_grid_is_no_window(wing):
    _, (votes, active, *betas) = case32(1.0)
    whole = Window((4, 3), (4, 3))
    arrays = votes[:, 0], active[:, 0], *betas
    alone = routed(wing)(*(wings.array(wing, each) for each in arrays))
    arrays = votes[:, :1], active[:, :1], *betas
    held = routed(wing, window=whole)(*(wings.array(wing, each) for each in arrays))
    for a, b in zip(alone, held, strict=True):
        near(wings.numpy(a), wings.numpy(b)[:, 0], 1e-6, "results")


@wings.jax_slow
@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("float64", marks=[pytest.mark.float64])]
)
@pytest.mark.parametrize("train", wings.wide([True, False], bool))
def test_every_tensor_is_the_oracles(wing, precision, train):
    tolerance = 1e-5 if precision == "float32" else 1e-13
    follows_the_oracle(wing, TINY, random_weights(TINY), tolerance, precision, train)


@pytest.mark.slow
@pytest.mark.float64
def test_a_matrix_for_each_place_and_full_covariances_are_the_oracles(wing):
    spec = dataclasses.replace(
        TINY, shared=False, coordinates=0.0, routing=Routing("variational_bayes", covariance="full")
    )
    follows_the_oracle(wing, spec, random_weights(spec), 1e-13, "float64")


@wings.jax_slow
def test_a_step_moves_state_and_a_resume_goes_on(wing):
    trainer = wing.Trainer(TINY, TrainingSpec())
    images, labels = batch(TINY)
    before = trainer.get_state()
    trainer.step(images, labels)
    after = trainer.get_state()
    seen = reference.forward(TINY, before["weights"], images, labels, train=True)
    for name in state(TINY):
        near(after["weights"][name], seen[name], 1e-5, name)
    again = wing.Trainer(TINY, TrainingSpec())
    again.set_state(after)
    assert again.step(images, labels) == trainer.step(images, labels)


@pytest.mark.slow
def test_many_steps_stay_finite(wing):
    trainer = wing.Trainer(TINY, TrainingSpec(learning_rate=3e-3))
    images, labels = batch(TINY, 30)
    for step in range(2000):
        rows = np.arange(10) + step % 20
        assert np.isfinite(trainer.step(images[rows], labels[rows])["loss"]), step
    assert all(np.isfinite(array).all() for array in trainer.get_state()["weights"].values())


@wings.jax_slow
def test_couplings_are_the_class_capsules(wing):
    images, _ = batch(TINY)
    couplings = wing.Trainer(TINY, TrainingSpec()).couplings(images)
    assert couplings.shape == (3, 6, np.prod(TINY.senders), 3)


@wings.jax_slow
def test_weights_travel_through_files_of_every_kind(wing, tmp_path):
    travels(wing, TINY, random_weights(TINY), tmp_path)


@pytest.mark.parametrize("name", MISTAKES["variational_bayes"])
def test_mistakes_are_named(name):
    wrong = functools.partial(variational_bayes, **MISTAKES["variational_bayes"][name])
    report = check_callable("routing", wrong, "variational_bayes")
    assert not report.conforms
    assert name in report.mistakes


def test_the_cross_entropy_has_a_floor():
    for classes, floor in ((5, 0.905), (10, 1.461)):
        best = np.eye(classes)[:1]
        assert reference.cross_entropy(best, np.array([0])) == pytest.approx(floor, abs=5e-4)


def test_a_spec_comes_back_from_its_json():
    values = json.loads(json.dumps(to_dict(TINY)))
    assert (values["network"], values["routing"]["name"]) == (
        "variational_bayes",
        "variational_bayes",
    )
    assert from_dict(NetworkSpec, values) == TINY


REFUSED = {
    "primary: a pose has 5 numbers; expected a square number": {
        "primary": Primary(2, 5, 1, 1),
        "capsules": (),
    },
    "network variational_bayes needs logits from its routing, and em gives activations": {
        "routing": Routing("em")
    },
    "norm: kind is 'layer', first is True; expected batch": {"norm": Norm("layer", first=True)},
    "norm: kind is 'batch', first is False; expected batch": {"norm": Norm()},
    "loss: kind is 'margin', of lengths": {"loss": Loss()},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_built_is_refused(message):
    with pytest.raises(SpecError) as error:
        dataclasses.replace(TINY, **REFUSED[message])
    assert message in str(error.value)


def test_a_routing_of_logits_is_refused_without_norms():
    with pytest.raises(SpecError, match="needs activations from its routing, and variational_bay"):
        Hinton2018(routing=Routing("variational_bayes"))


@wings.jax_slow
def test_one_image_is_refused_in_training(wing):
    with pytest.raises(SpecError, match="batch norm: 1 number a channel"):
        TINY.check_batch(1)
    images, labels = batch(TINY, 1)
    net = wing.build(TINY)
    assert wings.numpy(net.scores(images)).shape == (1, 3)
    with pytest.raises(SpecError, match="batch norm: 1 number a channel"):
        net.loss(images, labels, train=True)


def test_what_no_routing_is_is_refused(wing):
    votes, active = np.ones((1, 2, 3, 5), np.float32), np.ones((1, 2), np.float32)
    beta = np.ones(3, np.float32)
    given = [wings.array(wing, each) for each in (votes, active, beta, beta)]
    with pytest.raises(SpecError, match="num_iters is 0; expected at least 1"):
        routed(wing, num_iters=0)(*given)
    with pytest.raises(SpecError, match="covariance is 'diag'; expected one of diagonal, full"):
        routed(wing, covariance="diag")(*given)
    with pytest.raises(SpecError, match="covariance is 'round'; expected one of diagonal, full"):
        Routing("variational_bayes", covariance="round")
    given[1] = wings.array(wing, -active)
    with pytest.raises(SpecError, match=r"activations are from -1 to 0; expected 0 to 1"):
        routed(wing)(*given)
