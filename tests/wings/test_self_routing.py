"""Self-routing capsules: the authors' own numbers, their traps, and what is refused."""

import dataclasses
import functools
import importlib
import json
import math

import numpy as np
import pytest
import wings
from test_efficient import batch, follows_the_oracle, near
from test_golden import GOLDEN
from weight_files import travels

from parity import reference
from parity.conformance import check_callable
from parity.conformance.activated import MISTAKES, UNCHOSEN, self_routing
from parity.spec import (
    Block,
    CapsuleLayer,
    Conv,
    Hahn2019,
    Loss,
    NetworkSpec,
    Norm,
    Pixels,
    Primary,
    Routing,
    SpecError,
    TrainingSpec,
    Window,
    from_dict,
    preset,
    to_dict,
)
from parity.weights import state, table

# 13x11 -> 7x6 of 2 types of 5 -> 4x3 of 3 types of 7 -> three classes
TINY = Hahn2019(
    image=(13, 11, 2),
    pixels=Pixels((0.3, 0.4), (0.5, 0.7)),
    stem=(Conv(3, 3),),
    blocks=(Block(3), Block(5, 2)),
    primary=Primary(types=2, size=5, kernel=3, stride=1),
    capsules=(CapsuleLayer(types=3, size=7, stride=2),),
    classes=3,
)


def golden(depth: int):
    """A network of the authors' tiny widths, its weights by our names, and the file."""
    with np.load(GOLDEN / f"self_routing_resnet_{depth}.npz") as file:
        case = {name.replace("capsules.", "capsule."): array for name, array in file.items()}
    told = json.loads(str(case["spec"]))
    first = told["planes"]
    spec = Hahn2019(
        image=tuple(told["image"]),
        stem=(Conv(first, 3),),
        blocks=tuple(
            Block(first << level, 2 if n == 0 and level else 1)
            for level in range(3)
            for n in range(3)
        ),
        primary=Primary(told["types"], told["size"], 3, 1),
        capsules=(CapsuleLayer(told["types"], told["size"], 3, 2),) * (depth - 1),
        classes=told["classes"],
    )
    head = "weights/"
    weights = {name.removeprefix(head): a for name, a in case.items() if name.startswith(head)}
    return spec, weights, case


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("depth", [1, 2])
def test_the_oracles_network_is_the_authors(depth, mode):
    spec, weights, case = golden(depth)
    images = case["images_BHWC"].astype(float)
    seen = reference.forward(spec, weights, images, case["labels"], train=mode == "train")
    logs = seen["routing.0.log_activations"]
    near(logs, case[f"{mode}/log_activations_BJ"], 1e-13, "log activations")
    near(seen["loss"], case[f"{mode}/loss"], 1e-13, "loss")
    for name in state(spec) if mode == "train" else ():
        near(seen[name], case[f"train/new/{name}"], 1e-13, name)


@pytest.mark.slow
@pytest.mark.float64
@pytest.mark.parametrize(("depth", "mode"), [(1, "train"), (1, "eval"), (2, "train")])
def test_each_wings_network_is_the_authors(wing, depth, mode):
    spec, weights, case = golden(depth)
    net = wing.build(spec, precision="float64")
    wing.weights.from_numpy(net, weights)
    images, labels = case["images_BHWC"].astype(float), case["labels"]
    values, slopes = wing.tracing.trace(net, images, labels, train=mode == "train")
    near(values["routing.0.log_activations"], case[f"{mode}/log_activations_BJ"], 1e-12, "logs")
    for key, array in case.items():
        if key.startswith(f"{mode}/grad/"):
            found = slopes[f"parameter/{key.removeprefix(f'{mode}/grad/')}"]
            near(found, array, 1e-11, key)


def routed(tree, case):
    """The layer of a golden case in a wing or the oracle: (activations, poses) of its parents."""
    size = (int(case["kernel_size"]),) * 2
    stride, padding = int(case["stride"]), int(case["padding"])
    log_activations = inside(tree).log_activations

    def layer(activations, poses, route, bias, *kernel):
        windows = functools.partial(tree.convolution.windows, kernel=size, stride=stride)
        padded = windows(tree.convolution.padded(poses, padding))
        count = padded.shape[3] * padded.shape[4]
        poses_NIK = padded.reshape(-1, count, padded.shape[5])
        a_NI = windows(tree.convolution.padded(activations, padding)).reshape(-1, count)
        route, bias = route.reshape(count, *route.shape[3:]), bias.reshape(1, count, -1)
        logits = (poses_NIK[:, :, None] * route[None]).sum(-1) + bias
        if not kernel:
            logs, _ = log_activations(a_NI, logits)
            return math.e**logs
        votes = tree.capsules.votes(poses_NIK, kernel[0].reshape(count, *kernel[0].shape[3:]))
        return tree.routing.self_routing(votes, a_NI, logits)[:2]

    return layer


def inside(tree):
    """The file of the routing, whose `log_activations` the class layers take."""
    return importlib.import_module(f"{tree.__name__}.routing._self_routing")


NAMES = ("activations_BHWI", "poses_BHWIK", "route_kernel", "route_bias", "kernel")
OUTPUTS = (("out_activations_BHWJ", "cotangent_a_BHWJ"), ("out_poses_BHWJD", "cotangent_p_BHWJD"))


@pytest.mark.float64
@wings.jax_slow
@pytest.mark.parametrize("number", wings.wide([0, 1, 2], (2).__eq__))
def test_layers_of_the_authors(wing, number):
    """Their windows, with gradients by every array; case 2 is a class layer."""
    with np.load(GOLDEN / "self_routing.npz") as file:
        head = f"case{number}."
        case = {n.removeprefix(head): a for n, a in file.items() if n.startswith(head)}
    given = [case[name] for name in NAMES if name in case]
    outputs = [pair for pair in OUTPUTS if pair[0] in case]
    found = routed(reference, case)(*given)
    found = [found[1], found[0]] if isinstance(found, tuple) else [found]
    for (name, _), each in zip(outputs, found, strict=True):
        near(each.reshape(case[name].shape), case[name], 1e-12, name)

    def total(*arrays):
        got = routed(wing, case)(*arrays)
        got = [got[1], got[0]] if isinstance(got, tuple) else [got]
        weights = [wings.array(wing, case[weight]) for _, weight in outputs]
        pairs = zip(got, weights, strict=True)
        return sum((each.reshape(weight.shape) * weight).sum() for each, weight in pairs)

    _, slopes = wings.gradients(wing, total, given)
    for name, slope in zip(NAMES, slopes, strict=False):
        near(slope, case[f"grad_{name}"], 1e-12, name)


def test_the_numbers_of_parameters_are_the_papers():
    for name, count in (("selfrouting2019", 931_664), ("selfrouting2019-2", 3_187_536)):
        rows = table(preset(name)).values()
        assert sum(np.prod(row.shape) for row in rows if row.trained) == count


@wings.jax_slow
def test_the_first_step_routes_evenly_whatever_the_poses(wing):
    """R and b begin at 0: every class is as active, and activations have no gradient."""
    images, labels = batch(TINY)
    values, slopes = wing.tracing.trace(wing.build(TINY), images, labels)
    near(np.exp(values["routing.0.log_activations"]), np.full((6, 3), 1 / 3), 1e-6, "activations")
    near(values["loss"], np.log(3), 1e-6, "loss")
    route = np.abs(slopes["parameter/capsule.1.route.kernel"]).max()
    assert np.abs(slopes["primary.activations"]).max() < 1e-6 * route


@wings.jax_slow
@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("float64", marks=[pytest.mark.float64])]
)
@pytest.mark.parametrize("train", wings.wide([True, False], bool))
def test_every_tensor_is_the_oracles(wing, precision, train):
    tolerance = 1e-5 if precision == "float32" else 1e-13
    follows_the_oracle(wing, TINY, random_weights(TINY), tolerance, precision, train)


def random_weights(spec, seed: int = 0):
    """A random value in every place: R and b, which begin at 0, too."""
    random = np.random.default_rng(seed)
    arrays = {
        name: (0.5 * random.standard_normal(row.shape)).astype("float32")
        for name, row in table(spec).items()
    }
    return arrays | {n: np.abs(a) + np.float32(0.1) for n, a in arrays.items() if "variance" in n}


@wings.jax_slow
def test_activations_sum_to_one_and_are_what_is_ranked(wing):
    images, _ = batch(TINY)
    net = wing.build(TINY)
    wing.weights.from_numpy(net, random_weights(TINY))
    capsules, new = net.capsules(images)
    assert (capsules.poses, new) == (None, {})
    near(wings.numpy(capsules.activations).sum(1), np.ones(6), 1e-6, "sum")
    scores = wings.numpy(net.scores(images))
    assert (scores == wings.numpy(net(images))).all()
    assert (scores.argmax(1) == wings.numpy(net.predict(images))).all()


@wings.jax_slow
def test_a_class_that_no_child_chooses_is_finite_in_float32(wing):
    """sum c a underflows to 0, whose logarithm and quotient are not finite."""
    random = np.random.default_rng(0)
    votes, activations = random.standard_normal((2, 5, 3, 7)), random.random((2, 5))
    logits = random.standard_normal((2, 5, 3))
    logits[:, :, 1] -= 200
    given = [array.astype(np.float32) for array in (votes, activations, logits)]
    right = reference.routing.self_routing(*given)

    def loss(*arrays):
        logs, _ = inside(wing).log_activations(*arrays[1:])
        poses, _, _ = wing.routing.self_routing(*arrays)
        return wing.losses.negative_log_likelihood(
            logs, wings.array(wing, np.array([1, 1], "int32"))
        ) + (poses.sum())

    value, slopes = wings.gradients(wing, loss, given)
    assert np.isfinite(value)
    assert all(np.isfinite(slope).all() for slope in slopes)
    found = wing.routing.self_routing(*(wings.array(wing, each) for each in given))
    near(wings.numpy(found[0]), right[0], 1e-5, "poses")


@pytest.mark.parametrize("name", MISTAKES["self_routing"])
def test_mistakes_are_named(name):
    settings = MISTAKES["self_routing"][name]
    report = check_callable("routing", functools.partial(self_routing, **settings), "self_routing")
    assert not report.conforms
    assert name in report.mistakes


def test_what_is_not_finite_is_named_by_its_case():
    def naive(votes, activations, logits):
        coupling = np.exp(logits - logits.max(-1, keepdims=True))
        coupling = (coupling / coupling.sum(-1, keepdims=True)).astype(np.float32)
        sent = coupling * activations[..., None]
        poses = (sent[..., None] * votes).sum(1) / sent.sum(1)[..., None]
        return poses, sent.sum(1) / activations.sum(1, keepdims=True), coupling

    report = check_callable("routing", naive, "self_routing")
    assert report.mistakes == [f"NaN at {UNCHOSEN}"]


@wings.jax_slow
def test_each_wings_routing_conforms(wing):
    report = check_callable("routing", wing.routing.self_routing, "self_routing")
    assert report.conforms, report.rows
    assert "activations_BI=activations_BI, logits_BIJ=logits_BIJ" in report.convention


@wings.jax_slow
def test_a_step_moves_state_and_a_resume_goes_on(wing):
    training = TrainingSpec(optimizer="sgd", l2=1e-3, learning_rate=0.1)
    trainer = wing.Trainer(TINY, training)
    images, labels = batch(TINY)
    before = trainer.get_state()
    near(trainer.scores(images), trainer.poses(images), 1e-9, "scores")
    trainer.step(images, labels)
    after = trainer.get_state()
    seen = reference.forward(TINY, before["weights"], images, labels, train=True)
    for name in state(TINY):
        near(after["weights"][name], seen[name], 1e-5, name)
    again = wing.Trainer(TINY, training)
    again.set_state(after)
    assert again.step(images, labels) == trainer.step(images, labels)


@wings.jax_slow
def test_couplings_are_the_class_capsules(wing):
    trainer = wing.Trainer(TINY, TrainingSpec())
    images, _ = batch(TINY)
    couplings = trainer.couplings(images)
    height, width, types = TINY.senders
    assert couplings.shape == (1, 6, height * width * types, 3)


@wings.jax_slow
def test_weights_travel_through_files_of_every_kind(wing, tmp_path):
    travels(wing, TINY, random_weights(TINY), tmp_path)


def test_a_spec_comes_back_from_its_json():
    values = json.loads(json.dumps(to_dict(TINY)))
    assert (values["network"], values["loss"]["kind"]) == (
        "self_routing",
        "negative_log_likelihood",
    )
    assert from_dict(NetworkSpec, values) == TINY


def test_children_in_no_window_are_counted():
    assert Window((6, 6), (3, 3), 2).places == (2, 2)
    assert Window((6, 6), (3, 3), 2).left_out == 36 - 25
    assert Window((7, 5), (3, 3), 2).left_out == 0
    assert Window((5, 7), (1, 2), 3).left_out == 35 - 2 * 4


REFUSED = {
    "block.1: makes 2 channels of 3; expected at least as many": {"blocks": (Block(3), Block(2))},
    "routing dynamic takes votes; network self_routing has votes, activations, logits to give": {
        "routing": Routing()
    },
    "loss: kind is 'margin', of lengths; network self_routing has activations": {"loss": Loss()},
    "norm: first is False; expected True": {"norm": Norm()},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_built_is_refused(message):
    with pytest.raises(SpecError) as error:
        dataclasses.replace(TINY, **REFUSED[message])
    assert message.replace("activations", "") in str(error.value).replace("activations", "")


def test_routings_and_losses_of_activations_are_refused_elsewhere():
    with pytest.raises(SpecError, match=r"takes votes, activations, logits; .* has votes to give"):
        NetworkSpec(routing=Routing("self_routing"))
    with pytest.raises(SpecError, match="of activations; network sabour2017 has lengths"):
        NetworkSpec(loss=Loss(kind="negative_log_likelihood"))
    with pytest.raises(SpecError, match="kind is 'hinge'"):
        Loss(kind="hinge")


@pytest.mark.parametrize("number", [-0.1, 1.5, np.nan])
def test_activations_outside_of_0_to_1_are_refused(wing, number):
    votes, logits = np.ones((1, 2, 3, 5), np.float32), np.ones((1, 2, 3), np.float32)
    activations = np.array([[0.5, number]], np.float32)
    given = [wings.array(wing, each) for each in (votes, activations, logits)]
    with pytest.raises(SpecError, match=r"activations are from .*; expected 0 to 1"):
        wing.routing.self_routing(*given)
