"""Inverted attention: the authors' own numbers, the sheet's traps, and what is refused."""

import dataclasses
import functools
import importlib
import json

import numpy as np
import pytest
import wings
from test_efficient import batch, near
from test_golden import GOLDEN
from test_self_routing import random_weights
from weight_files import travels

from parity import reference
from parity.conformance import check_callable
from parity.conformance.activated import MISTAKES, inverted_attention
from parity.spec import (
    Block,
    CapsuleLayer,
    Conv,
    Loss,
    NetworkSpec,
    Norm,
    Pixels,
    Primary,
    Routing,
    SpecError,
    TrainingSpec,
    Tsai2020,
    from_dict,
    preset,
    to_dict,
)
from parity.weights import draw, table


def inverted(steps: int = 3, order: str = "concurrent") -> Routing:
    return Routing("inverted_attention", steps, order)


# 15x13 -> 8x7 of 3 types of 2x2 -> 3x3 of 2 types -> 2x2 of 5 types -> three classes
TINY = Tsai2020(
    image=(15, 13, 2),
    pixels=Pixels((0.3, 0.4), (0.5, 0.7)),
    stem=(Conv(3, 3),),
    blocks=(Block(3), Block(5, 2, projected=True)),
    primary=Primary(types=3, size=4, kernel=1, stride=1),
    capsules=(CapsuleLayer(types=2, size=4, kernel=3, stride=2), CapsuleLayer(5, 4, 2)),
    classes=3,
    pose=4,
    routing=inverted(3),
)
VECTORS = dataclasses.replace(
    TINY,
    stem=(Conv(3, 3, 2),),
    blocks=(),
    norm=None,
    primary=Primary(types=3, size=5, kernel=3, stride=1),
    capsules=(CapsuleLayer(types=2, size=7, kernel=3, stride=2),),
    pose=11,
    matrices=False,
    released=True,
    routing=inverted(2, "sequential"),
)


def cases(name: str):
    """The cases of a file of golden layers, each without the head of its names."""
    with np.load(GOLDEN / f"inverted_{name}.npz") as file:
        found = dict(file)
    heads = sorted({key.partition(".")[0] for key in found})
    return [
        {key.removeprefix(f"{head}."): array for key, array in found.items() if head == key[:5]}
        for head in heads
    ]


def layer(tree, case, released: bool = False):
    """All iterations of a golden layer in a wing or the oracle: (inputs, kernel, scale, shift)."""
    votes = tree.capsules.matrix_votes if case["matrix"] else tree.capsules.votes
    own = importlib.import_module(f"{tree.__name__}.{SCRAMBLED[tree.__name__]}")

    def run(inputs, kernel, scale, shift):
        if "stride" in case:  # a place of the output is one of the batch
            seen = tree.convolution.windows(inputs, kernel.shape[:2], int(case["stride"]))
            seen = own.scrambled(seen) if released else seen
            inputs = seen.reshape(-1, seen.shape[3] * seen.shape[4], seen.shape[5])
            kernel = kernel.reshape(-1, *kernel.shape[3:])
        given, poses, steps = votes(inputs, kernel), None, []
        for _ in range(int(case["num_iters"])):
            poses, _ = tree.routing.inverted_attention(given, poses)
            shape = poses.shape
            poses = tree.norm.layer(poses.reshape(-1, shape[-1]), scale, shift, epsilon=1e-5)
            poses = poses.reshape(shape)
            steps.append(poses)
        return steps

    return run


SCRAMBLED = {
    "parity.reference": "networks.inverted",
    "torch_caps": "layers.inverted",
    "jax_caps": "layers.inverted",
}
NAMES = {"fc": ("inputs_BIK", "kernel"), "conv": ("inputs_BHWIK", "kernel")}
LAYERS = [
    pytest.param(file, number, head, id=f"{file}{number}{head}")
    for file, heads in (("fc", ("",)), ("conv", ("", "apple_release.")))
    for number in range(3 if file == "fc" else 2)
    for head in heads
]


@pytest.mark.parametrize(("file", "number", "head"), LAYERS)
def test_the_oracles_layers_are_the_authors(file, number, head):
    case = cases(file)[number]
    given = [case[name] for name in (*NAMES[file], "scale_D", "shift_D")]
    last = "poses_BJD" if file == "fc" else "poses_BHWJD"
    for t, poses in enumerate(layer(reference, case, bool(head))(*given)):
        right = case[f"{head}{t}.{last}"]
        near(poses.reshape(right.shape), right, 1e-12, f"iteration {t}")


@pytest.mark.parametrize("number", range(3))
def test_agreements_couplings_and_sums_are_the_authors(number):
    case, seen = cases("fc")[number], {}

    def tap(key, x):
        seen[key.removeprefix("routing.0.")] = x
        return x

    for t in range(int(case["num_iters"])):
        before = case[f"{t - 1}.poses_BJD"] if t else None
        reference.routing.inverted_attention(case["votes_BIJD"], before, tap=tap)
        for ours, theirs in (("coupling", "coupling_BIJ"), ("sum", "sum_BJD")):
            near(seen[ours], case[f"{t}.{theirs}"], 1e-12, f"{t}.{theirs}")
        if t:
            near(seen["logits"], case[f"{t}.agreement_BIJ"], 1e-12, f"{t}.agreement")


def network_case():
    """The golden network's spec, its weights by our names and shapes, and the file."""
    with np.load(GOLDEN / "inverted_network.npz") as file:
        case = dict(file)
    spec = Tsai2020(
        image=(10, 10, 1),
        stem=(Conv(7, 3, 2),),
        blocks=(),
        norm=None,
        primary=Primary(types=3, size=4, kernel=1, stride=1),
        capsules=(CapsuleLayer(2, 4, 3), CapsuleLayer(5, 4, 3)),
        classes=7,
        pose=4,
    )
    return spec, case


def own(spec, case, head):
    """The golden arrays of a head by our names; ours of a dense layer are a window's."""
    return {
        name: case[f"{head}{name.replace('capsule.', 'capsules.')}"].reshape(row.shape)
        for name, row in table(spec).items()
    }


RUNS = [
    (head, order, steps)
    for head, order, many in (
        ("", "concurrent", (1, 2, 3)),
        ("", "sequential", (1, 2, 3)),
        ("apple_release/", "concurrent", (1, 2, 3)),
        ("apple_release/", "sequential", (3,)),
    )
    for steps in many
]


@pytest.mark.parametrize(("head", "order", "steps"), RUNS)
def test_the_oracles_network_is_the_authors(head, order, steps):
    spec, case = network_case()
    spec = dataclasses.replace(spec, released=bool(head), routing=inverted(steps, order))
    weights = own(spec, case, "weights/")
    seen = reference.forward(spec, weights, case["images_BHWC"], case["labels"])
    near(seen["logits"], case[f"{head}eval/{order}{steps}/logits_BJ"], 1e-12, "logits")
    near(seen["loss"], case[f"{head}eval/{order}{steps}/loss"], 1e-12, "loss")


@pytest.mark.float64
@wings.jax_slow
@pytest.mark.parametrize(
    ("file", "number", "head"), wings.wide(LAYERS, lambda *row: row == ("conv", 0, ""))
)
def test_each_wings_layers_are_the_authors(wing, file, number, head):
    case = cases(file)[number]
    names = (*NAMES[file], "scale_D", "shift_D")
    last = "poses_BJD" if file == "fc" else "poses_BHWJD"
    right, weight = case[f"{head}{last}"], case[f"cotangent_{last.removeprefix('poses_')}"]

    def final(*arrays):
        return layer(wing, case, bool(head))(*arrays)[-1].reshape(right.shape)

    value, slopes = wings.gradients(wing, final, [case[name] for name in names], weight)
    near(value, right, 1e-12, "poses")
    for name, slope in zip(names, slopes, strict=True):
        near(slope, case[f"{head}grad_{name}"], 1e-12, name)


@pytest.mark.float64
@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize(("head", "order", "steps"), wings.wide(RUNS, lambda h, o, s: s == 2))
@wings.jax_slow
def test_each_wings_network_is_the_authors(wing, head, order, steps, lean):
    """Without votes too: a mistake of the order, of which steps are left out, shows here."""
    spec, case = network_case()
    spec = dataclasses.replace(spec, released=bool(head), routing=inverted(steps, order))
    net = wing.build(spec, precision="float64", lean=lean, block=2)
    wing.weights.from_numpy(net, own(spec, case, "weights/"))
    images, right = case["images_BHWC"], case[f"{head}eval/{order}{steps}/logits_BJ"]
    logs = right - np.log(np.exp(right).sum(1, keepdims=True))
    near(wings.numpy(net.scores(images)), np.exp(logs), 1e-11, "activations")
    key = f"{head}eval/{order}{steps}/grad/"
    if lean or f"{key}images_BHWC" not in case:
        return
    values, slopes = wing.tracing.trace(net, images, case["labels"])
    near(values["logits"], right, 1e-11, "logits")
    near(slopes["image"], case[f"{key}images_BHWC"], 1e-11, "image")
    for name, slope in own(spec, case, key).items():
        if name != "head.bias":  # 0 but for rounding
            near(slopes[f"parameter/{name}"], slope, 1e-11, name)
    assert np.abs(slopes["parameter/head.bias"]).max() < 1e-15


NONE, PASSES = "", "the first pass again: T - 1 iterations"
IN_STEP = {
    "agreements not divided by the root of D",
    "agreements added up as in 2017",
    "a softmax over the inputs",
    "no norm",
    "the squash of 2017 for the norm",
    "the kernel times the pose",
    "the release's windows",
}
IN_ORDER = {"sequential for concurrent", "the new poses of the layer below", PASSES}


def slow(spec, weights, first, steps, mistake=NONE):
    """The logits of first capsules, written once more, with one of the mistakes or none."""
    last, total = len(spec.capsules) + 1, [0] * 3

    def step(n, below, before):
        seen = reference.windows(below, *spec.windows[n][1:])
        if mistake == "the release's windows":
            seen = importlib.import_module("parity.reference.networks.inverted").scrambled(seen)
        kernel = weights[f"capsule.{n}.kernel"]
        kernel = kernel.reshape(1, -1, *kernel.shape[3:])
        pose = seen.reshape(seen.shape[0], *seen.shape[1:3], 1, -1, 1, 2, 2)
        votes = kernel @ pose if mistake == "the kernel times the pose" else pose @ kernel
        votes = votes.reshape(*seen.shape[:3], *kernel.shape[1:3], 4)
        agreement = 0 * votes[..., 0]
        if before is not None:
            agreement = (votes * before[:, :, :, None]).sum(-1)
            agreement = agreement / (1 if mistake.startswith("agreements not") else 2)
        if mistake.startswith("agreements added"):
            total[n] = agreement = total[n] + agreement
        axis = 3 if mistake == "a softmax over the inputs" else 4
        coupling = np.exp(agreement - agreement.max(axis, keepdims=True))
        coupling = coupling / coupling.sum(axis, keepdims=True)
        made = (coupling[..., None] * votes).sum(3)
        if mistake == "the squash of 2017 for the norm":
            return reference.squash(made)
        if mistake == "no norm":
            return made
        apart = made - made.mean(-1, keepdims=True)
        made = apart / np.sqrt((apart**2).mean(-1, keepdims=True) + 1e-5)
        own = (weights[f"capsule.{n}.norm.{part}"] for part in ("scale", "shift"))
        return made * next(own) + next(own)

    steps -= mistake == PASSES
    if mistake == "sequential for concurrent":
        below = first
        for n in range(last):
            poses = None
            for _ in range(steps):
                poses = step(n, below, poses)
            below = poses
        return logits_of(weights, below)
    poses = [first, *[None] * last]
    for n in range(last):
        poses[n + 1] = step(n, poses[n], None)
    for _ in range(1, steps):  # every step of every layer, those that nothing reads too
        before = list(poses)
        for n in range(last):
            new = mistake == "the new poses of the layer below"
            poses[n + 1] = step(n, poses[n] if new else before[n], before[n + 1])
    return logits_of(weights, poses[last])


def logits_of(weights, classes):
    return (classes[:, 0, 0] @ weights["head.kernel"] + weights["head.bias"])[..., 0]


@pytest.mark.parametrize("mistake", ["", *sorted(IN_STEP | IN_ORDER)])
def test_mistakes_show_in_the_authors_numbers(mistake):
    spec, case = network_case()
    weights = own(spec, case, "weights/")
    seen = reference.forward(spec, weights, case["images_BHWC"], case["labels"])
    right = case["eval/concurrent3/logits_BJ"]
    found = slow(spec, weights, seen["primary.poses"], 3, mistake)
    if mistake:
        assert wings.difference(found, right) > 0.01
    else:
        near(found, right, 1e-9, "logits")  # without the 1e-10


def test_a_layer_has_one_scale_and_the_classes_one_head():
    rows = table(TINY)
    assert rows["capsule.1.norm.scale"].shape == rows["primary.norm.shift"].shape == (4,)
    assert (rows["head.kernel"].shape, rows["head.bias"].shape) == ((4, 1), (1,))
    assert [name for name, row in rows.items() if row.free] == ["head.bias"]
    once = table(dataclasses.replace(TINY, routing=inverted(1)))
    free = [name for name, row in once.items() if row.free]
    assert free == ["capsule.2.norm.shift", "head.bias"]


@pytest.mark.parametrize("name", MISTAKES["inverted_attention"])
def test_mistakes_are_named(name):
    settings = MISTAKES["inverted_attention"][name]
    function = functools.partial(inverted_attention, **settings)
    report = check_callable("routing", function, "inverted_attention")
    assert not report.conforms
    assert name in report.mistakes


def test_the_numbers_of_parameters_are_the_authors():
    hundred = {
        "classes": 100,
        "pose": 36,
        "primary": Primary(types=32, size=36, kernel=1, stride=1),
        "capsules": (
            CapsuleLayer(size=36, stride=2),
            CapsuleLayer(size=36),
            CapsuleLayer(20, 36, 5),
        ),
    }
    for name, count, of_hundred in (
        ("tsai2020", 1_828_817, 2_799_629),
        ("tsai2020-simple", 492_177, 1_462_989),
    ):
        for spec, expected in (
            (preset(name), count),
            (dataclasses.replace(preset(name), **hundred), of_hundred),
        ):
            rows = table(spec).values()
            assert sum(np.prod(row.shape) for row in rows if row.trained) == expected


def test_first_kernels_are_normal_and_not_cut():
    spec = preset("tsai2020-mnist")
    row, array = table(spec)["capsule.0.kernel"], draw(spec, 0)["capsule.0.kernel"]
    assert row.std == pytest.approx(np.sqrt(16 / (3 * 9 * 16)))
    assert np.abs(array).max() > 3 * row.std
    assert array.std() == pytest.approx(row.std, rel=0.02)
    vectors = table(VECTORS)["capsule.1.kernel"]
    assert vectors.std == pytest.approx(np.sqrt(3 / (7 * np.prod(vectors.shape[:3]))))


SPECS = {
    "matrices": TINY,
    "vectors": VECTORS,
    "poses of one number": dataclasses.replace(
        VECTORS,
        primary=Primary(types=3, size=1, kernel=1, stride=1),
        capsules=(CapsuleLayer(types=2, size=1, kernel=3),),
        pose=1,
        routing=inverted(1),
    ),
}


@wings.jax_slow
@pytest.mark.parametrize("name", wings.wide(SPECS, "matrices".__eq__))
@pytest.mark.parametrize("train", wings.wide([True, False], bool))
def test_every_tensor_is_the_oracles(wing, name, train):
    spec = SPECS[name]
    images, labels = batch(spec)
    net, weights = wing.build(spec), random_weights(spec)
    wing.weights.from_numpy(net, weights)
    values, _ = wing.tracing.trace(net, images, labels, train=train)
    expected = reference.forward(spec, weights, images, labels, train=train)
    assert [key for key in values if not key.startswith("parameter/")] == list(expected)
    # A pose of numbers near to each other has little variance, by whose root its norm divides their
    # rounding: here by as little as 0.003 what is rounded beside numbers of 3.7 or 10.
    poses = expected["primary.conv"].reshape(-1, spec.primary.size)
    gain = np.abs(poses).max() / np.sqrt(poses.var(1).min() + 1e-5) if poses.shape[1] > 1 else 0
    for key, array in expected.items():
        near(values[key], array, max(1e-5, 2**-24 * gain), key)


@wings.jax_slow
@pytest.mark.parametrize("name", wings.wide(SPECS, "vectors".__eq__))
def test_without_votes_it_is_the_same(wing, name):
    images, labels = batch(SPECS[name])
    found = []
    for lean in (True, False):
        trainer = wing.Trainer(SPECS[name], TrainingSpec(optimizer="sgd"), lean=lean, block=2)
        loss = trainer.step(images, labels)["loss"]
        found.append((loss, trainer.get_state()["optimizer"]))
    near(found[0][0], found[1][0], 1e-6, "loss")
    for key, array in found[1][1].items():
        if not table(SPECS[name])[key.removeprefix("sgd.momentum/")].free:
            near(found[0][1][key], array, 2e-5, key)


@wings.jax_slow
def test_activations_sum_to_one_and_are_what_is_ranked(wing):
    images, _ = batch(TINY)
    net = wing.build(TINY)
    wing.weights.from_numpy(net, random_weights(TINY))
    capsules, new = net.capsules(images)
    assert new == {}
    assert wings.numpy(capsules.poses).shape == (6, 3, 4)
    near(wings.numpy(capsules.activations).sum(1), np.ones(6), 1e-6, "sum")
    one = wings.numpy(net.scores(images[:1]))  # of a batch of one the batch stays
    near(one, wings.numpy(net.scores(images))[:1], 1e-5, "scores")
    assert (wings.numpy(net.predict(images)) == wings.numpy(net.scores(images)).argmax(1)).all()


@wings.jax_slow
def test_couplings_are_the_class_capsules_of_each_iteration(wing):
    trainer = wing.Trainer(TINY, TrainingSpec())
    images, _ = batch(TINY)
    couplings, (height, width, types) = trainer.couplings(images), TINY.senders
    assert couplings.shape == (3, 6, height * width * types, 3)
    near(couplings[0], np.full_like(couplings[0], 1 / 3), 1e-6, "the first")
    assert np.abs(couplings[2] - 1 / 3).max() > 1e-3


@wings.jax_slow
@pytest.mark.parametrize("name", wings.wide(SPECS, "matrices".__eq__))
def test_weights_travel_through_files_of_every_kind(wing, name, tmp_path):
    travels(wing, SPECS[name], random_weights(SPECS[name]), tmp_path)


def test_a_spec_comes_back_from_its_json():
    for spec in SPECS.values():
        values = json.loads(json.dumps(to_dict(spec)))
        assert (values["network"], values["routing"]["name"]) == ("inverted", "inverted_attention")
        assert from_dict(NetworkSpec, values) == spec
    assert "projected" not in to_dict(Block(3))


@pytest.mark.parametrize(
    ("message", "changes"),
    {
        "primary: a pose has 5 numbers; expected a square number": {"primary": Primary(3, 5, 1, 1)},
        "capsules 1: poses have 9 numbers; expected 4, as large as the first ones": {
            "capsules": (CapsuleLayer(2, 4, 3, 2), CapsuleLayer(5, 9, 2))
        },
        "classes: poses have 9 numbers; expected 4": {"pose": 9},
        "capsules 1: a window of 4x4 is larger than its grid of 3x3": {
            "capsules": (CapsuleLayer(2, 4, 3, 2), CapsuleLayer(5, 4, 4))
        },
        "blocks: are normalised, and norm is None": {"norm": None},
        "block.1: makes 5 channels of 7; expected at least as many, as a shortcut has zeros": {
            "blocks": (Block(7), Block(5))
        },
        "norm: first is False; expected True": {"norm": Norm()},
        "routing em takes votes, activations; network inverted has votes, poses to give": {
            "routing": Routing("em")
        },
        "loss: kind is 'margin', of lengths; network inverted has activations": {"loss": Loss()},
    }.items(),
)
def test_what_cannot_be_built_is_refused(message, changes):
    with pytest.raises(SpecError) as error:
        dataclasses.replace(TINY, **changes)
    assert message in str(error.value)


def test_options_that_there_are_not_are_refused():
    with pytest.raises(SpecError, match="num_iters is 0; expected a whole number above 0"):
        inverted(0)
    with pytest.raises(SpecError, match="order is 'both'; expected one of concurrent, sequential"):
        inverted(2, "both")
    with pytest.raises(SpecError, match="takes votes, poses; network sabour2017 has votes to give"):
        NetworkSpec(routing=inverted())
