"""DeepCaps: golden numbers, 3-D routing, the mistakes of public ports, and what is refused."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import wings
from test_efficient import batch, follows_the_oracle, near
from test_golden import GOLDEN
from weight_files import travels

from parity import reference, schedule
from parity.conformance import check_callable, grids
from parity.spec import (
    CapsuleLayer,
    Conv,
    Loss,
    NetworkSpec,
    Norm,
    Rajasegaran2019,
    Routing,
    SpecError,
    TrainingSpec,
    Transposed,
    from_dict,
    preset,
    to_dict,
)
from parity.weights import draw, state, table

# 12x8 -> 6x4 of 3 types of 2 -> 3x2 of 2 types of 5 -> 2x1; three classes see 8 places
TINY = Rajasegaran2019(
    image=(12, 8, 2),
    stem=(Conv(5, 3),),
    capsules=(CapsuleLayer(3, 2, stride=2), *(CapsuleLayer(2, 5, stride=2),) * 2),
    classes=3,
    pose=7,
    decoder=(11, 18),
    upsampling=Transposed(channels=(5, 2), strides=(1, 2, 2)),
    loss=Loss(reconstruction=0.4 / 192),
)
RELEASED = dataclasses.replace(TINY, skip=Routing("dynamic_3d", bias=True, released=True))
PLAIN = dataclasses.replace(
    TINY, skip=Routing("dynamic_3d", num_iters=2), routing=Routing(), decoder=None, loss=Loss()
)
ROUTED = ("routing_paper", "routing_map")
LAYERS = ("layer3d_paper", "layer3d_released")
CONVS = ("conv_s1", "conv_s2_even", "conv_s2_odd")


def golden(name: str):
    """Options and arrays of a file."""
    with np.load(GOLDEN / f"deepcaps_{name}.npz") as file:
        case = dict(file)
    return json.loads(str(case["options"])), case


def near_all(wing, function, case, inputs, outputs) -> None:
    """The values of a function of a wing and its gradients against those of a golden file."""
    weights = [wings.array(wing, case[f"weight.{output}"]) for output in outputs]

    def total(*arrays):
        pairs = zip(function(*arrays), weights, strict=True)
        return sum((each.reshape(weight.shape) * weight).sum() for each, weight in pairs)

    value, slopes = wings.gradients(wing, total, [case[f"in.{name}"] for name in inputs])
    near(value, sum((case[f"out.{o}"] * case[f"weight.{o}"]).sum() for o in outputs), 1e-12, "")
    for name, slope in zip(inputs, slopes, strict=True):
        near(slope, case[f"grad.{name}"], 1e-12, name)


def in_places(votes_BYXIJD):
    """Votes with places in a row, [B, P, I, J, D]."""
    return votes_BYXIJD.reshape(len(votes_BYXIJD), -1, *votes_BYXIJD.shape[3:])


@pytest.mark.parametrize("name", ROUTED)
def test_the_oracles_routing_is_the_golden_one(name):
    told, case = golden(name)
    seen = {}

    def tap(key, x):
        seen[key] = x
        return x

    options = {"num_iters": told["num_iters"], "released": told["squash_over"] == "map"}
    given = in_places(case["in.votes_BYXIJD"])
    found = reference.routing.dynamic_3d(given, bias_JD=case["in.bias_JD"], **options, tap=tap)
    for each, output in zip(found, ("poses_BYXJD", "coupling_BYXIJ"), strict=True):
        near(each.reshape(case[f"out.{output}"].shape), case[f"out.{output}"], 1e-13, output)
    for key, array in case.items():
        if key.startswith("tap."):
            near(seen[key.removeprefix("tap.")].reshape(array.shape), array, 1e-13, key)


@pytest.mark.float64
@wings.jax_slow
@pytest.mark.parametrize("name", ROUTED)
def test_each_wings_routing_is_the_golden_one(wing, name):
    told, case = golden(name)
    options = {"num_iters": told["num_iters"], "released": told["squash_over"] == "map"}

    def function(votes, bias):
        return wing.routing.dynamic_3d(in_places(votes), bias_JD=bias, **options)

    outputs = ("poses_BYXJD", "coupling_BYXIJ")
    near_all(wing, function, case, ("votes_BYXIJD", "bias_JD"), outputs)


def put(wing, layer, name: str, array, axes: str = "") -> None:
    """A parameter of a layer, of a tensor that is differentiated by."""
    if wing.__name__ == "torch_caps":
        array = array.permute(3, 2, 0, 1) if axes == "kh kw in out" else array
        delattr(layer, name)
        setattr(layer, name, array)
    else:
        getattr(layer, name).set_value(array)


@pytest.mark.float64
@wings.jax_slow
@pytest.mark.parametrize("name", CONVS)
def test_convolutional_capsules_are_the_golden_ones(wing, name):
    """Even sizes at stride 2 are padded at the end alone, odd ones on either side."""
    told, case = golden(name)
    *_, types, size = case["in.kernel_MNIKJD"].shape
    layer = CapsuleLayer(types, size, stride=told["stride"])

    def function(capsules, kernel):
        width = capsules.shape[3] * capsules.shape[4]
        caps = wing.layers.ConvCapsules(width, layer, layer.stride, capsules.dtype)
        put(wing, caps, "kernel", kernel.reshape(3, 3, width, -1), "kh kw in out")
        return (caps(capsules.reshape(*capsules.shape[:3], width)),)

    inputs = ("capsules_BHWIK", "kernel_MNIKJD")
    near_all(wing, function, case, inputs, ("capsules_BYXJD",))


@pytest.mark.float64
@wings.jax_slow
@pytest.mark.parametrize("name", LAYERS)
def test_routed_capsules_are_the_golden_ones(wing, name):
    told, case = golden(name)
    size, *_, types, pose = case["in.kernel_KMNJD"].shape
    routing = Routing("dynamic_3d", bias=True, released=told["released"])

    def function(capsules, kernel, bias):
        layer = wing.layers.RoutedCapsules(size, CapsuleLayer(types, pose), routing, bias.dtype)
        kernel = kernel.reshape(size, 3, 3, -1)
        turned = kernel.permute if wing.__name__ == "torch_caps" else kernel.transpose
        put(wing, layer, "kernel", turned(1, 2, 0, 3), "kh kw in out")
        put(wing, layer, "bias", bias)
        shown = {}

        def tap(key, x):
            shown[key] = x
            return x

        poses = layer(capsules, "", tap)
        return shown[".votes"], poses

    outputs = ("votes_BYXIJD", "poses_BYXJD")
    near_all(wing, function, case, ("capsules_BHWIK", "kernel_KMNJD", "bias_JD"), outputs)


def network_case(name: str):
    """The golden network: its spec, weights by our names, theirs, and the file."""
    told, case = golden(f"network_{name}")
    cells = [(2, 2), (2, 3), (2, 3)]
    spec = Rajasegaran2019(
        image=(12, 12, 2),
        stem=(Conv(3, 3),),
        capsules=tuple(CapsuleLayer(*sizes, stride=2) for sizes in cells),
        skip=Routing("dynamic_3d", bias=True, released=told["routing"]["released"]),
        classes=3,
        pose=5,
        decoder=(18,),
        upsampling=Transposed(channels=(3, 2, 2), strides=tuple(told["decoder"]["strides"])),
        loss=Loss(reconstruction=told["reconstruction"] / 288),
    )
    theirs = {"stem.0": "stem", "digit": "class", "decoder.0": "decoder.dense"}
    theirs |= {f"decoder.{n + 1}": f"decoder.{n}" for n in range(4)}
    theirs |= {"decoder.0.norm": "decoder.norm", "stem.0.norm": "stem.norm"}
    parts = {"scale": "weight", "shift": "bias"}
    names, weights = {}, {}
    for ours, row in table(spec).items():
        layer, _, part = ours.rpartition(".")
        part = parts.get(part, part)
        names[ours] = f"{theirs.get(layer, layer.replace('.caps', ''))}.{part}"
        weights[ours] = np.full(row.shape, row.value)
        if row.trained:
            weights[ours] = turned(ours, case[f"in.{names[ours]}"]).reshape(row.shape)
    return spec, weights, names, case, np.array(told["labels"])


def turned(name: str, array):
    """A golden array with the axes of our kernel: theirs of 3-D routing begins with the depth."""
    return array.transpose(1, 2, 0, 3, 4) if name == "cell.2.skip.kernel" else array


TAPS = {
    "routing.2.poses": "poses_BJD",
    "lengths": "lengths_BJ",
    "reconstruction": "reconstruction_BHWC",
    "loss": "loss",
}


@pytest.mark.parametrize("name", ["paper", "released"])
def test_the_oracles_network_is_the_golden_one(name):
    spec, weights, _, case, labels = network_case(name)
    seen = reference.forward(spec, weights, case["in.images"], labels, train=True)
    for ours, theirs in TAPS.items():
        near(seen[ours], case[f"out.{theirs}"], 1e-13, ours)


@pytest.mark.float64
@wings.jax_slow
@pytest.mark.parametrize("name", ["paper", "released"])
def test_each_wings_network_is_the_golden_one(wing, name):
    spec, weights, names, case, labels = network_case(name)
    net = wing.build(spec, precision="float64")
    wing.weights.from_numpy(net, weights)
    values, slopes = wing.tracing.trace(net, case["in.images"], labels, train=True)
    for ours, theirs in TAPS.items():
        near(values[ours], case[f"out.{theirs}"], 1e-13, ours)
    compared = [ours for ours, theirs in names.items() if f"grad.{theirs}" in case]
    for ours in compared:  # through twelve squashed layers and two norms
        slope = slopes[f"parameter/{ours}"]
        expected = turned(ours, case[f"grad.{names[ours]}"]).reshape(slope.shape)
        near(slope, expected, 1e-11, ours)
    assert len(compared) == (31 if name == "paper" else 6)


@wings.jax_slow
@pytest.mark.parametrize(
    ("spec", "train"),
    wings.wide(
        [(TINY, True), (TINY, False), (RELEASED, True), (PLAIN, True)],
        lambda spec, train: spec is TINY and train,
    ),
    ids=["tiny", "evaluation", "released", "plain"],
)
def test_every_tensor_is_the_oracles(wing, spec, train):
    follows_the_oracle(wing, spec, draw(spec, 2), train=train)


def test_the_numbers_of_parameters_are_those_of_the_released_code():
    def count(spec, trained=(True, False)):
        rows = table(spec).values()
        return sum(np.prod(row.shape, dtype=int) for row in rows if row.trained in trained)

    digits = preset("deepcaps-mnist")
    assert count(preset("deepcaps")) == 13_427_283
    assert (count(digits), count(digits, (False,))) == (8_500_625, 288)
    # The encoder of 64x64 on 32x32, with a decoder that makes images from as large a map.
    assert count(preset("deepcaps-32")) == 8_512_083


def test_without_places_3d_routing_is_routing_by_agreement():
    votes, bias = np.random.default_rng(0).normal(size=(2, 5, 3, 7)), np.ones((3, 7))
    for released in (False, True):
        found = reference.routing.dynamic_3d(votes, bias_JD=bias, released=released)
        for mine, other in zip(found, reference.routing.dynamic(votes, bias_JD=bias), strict=True):
            near(mine, other, 1e-14, "dynamic")


@wings.jax_slow
def test_transposed_convolutions_are_cut_at_the_end(wing):
    """At stride 2 nothing is cut at the start: the first place is made of the first one alone."""
    random = np.random.default_rng(0)
    x, kernel = (
        random.normal(size=size).astype(np.float32) for size in ((2, 3, 5, 2), (3, 3, 2, 7))
    )
    given = wings.array(wing, x)
    own = wings.array(wing, kernel.transpose(3, 2, 0, 1) if "torch" in wing.__name__ else kernel)
    for stride in (1, 2, 3):
        found = wings.numpy(wing.convolution.transposed(given, own, stride, given.dtype))
        near(found, reference.transposed(x, kernel, stride), 1e-6, f"stride {stride}")
    near(reference.transposed(x, kernel, 2)[:, 0, 0], x[:, 0, 0] @ kernel[0, 0], 1e-6, "first")


# Mistakes in public ports.


@wings.jax_slow
def test_every_component_of_a_child_moves_the_votes(wing):
    """A kernel of depth 3 with a stride of 8 would never read five of eight."""
    net, (images, labels) = wing.build(TINY), batch(TINY)
    _, slopes = wing.tracing.trace(net, images, labels)
    moved = np.abs(slopes["cell.2.caps.0.poses"]).max((0, 1, 2))
    assert (moved > 0).all()
    kernel = np.abs(slopes["parameter/cell.2.skip.kernel"]).max((0, 1, 3))
    assert kernel.shape == (5,)
    assert (kernel > 0).all()


DETACHED = "votes detached in all but the last iteration"  # its numbers are right
MISTAKES = grids.MISTAKES["dynamic_3d"]
NAMED = wings.wide([name for name in MISTAKES if name != DETACHED], lambda name: "each" in name)


@pytest.mark.parametrize("name", NAMED)
def test_mistakes_are_named(name):
    wrong = functools.partial(grids.dynamic_3d, **MISTAKES[name])
    report = check_callable("routing", wrong, "dynamic_3d")
    assert not report.conforms
    assert name in report.mistakes


def test_detached_votes_are_named_by_their_gradient():
    torch = pytest.importorskip("torch")

    def route(votes, num_iters):
        logits = torch.zeros(votes.shape[:-1])
        for t in range(num_iters):
            seen = votes if t == num_iters - 1 else votes.detach()
            shares = logits.transpose(1, 2).flatten(2).softmax(-1)
            coupling = shares.reshape(logits.transpose(1, 2).shape).transpose(1, 2)
            poses = torch_squash((coupling[..., None] * seen).sum(2))
            logits = logits + (seen * poses[:, :, None]).sum(-1)
        return poses, coupling

    def torch_squash(x):
        square = (x * x).sum(-1, keepdim=True)
        safe = torch.where(square == 0, 1.0, square)
        return torch.where(square == 0, 0.0, x * safe.sqrt() / (1 + safe))

    report = check_callable("routing", route, "dynamic_3d")
    assert {row.tensor for row in report.rows if not row.holds} == {"gradient"}
    assert report.mistakes == [DETACHED]


@wings.jax_slow
def test_the_decoder_is_the_same_for_all_classes(wing):
    """It is given one pose and not told of which class it is."""
    net = wing.build(TINY)
    pose = np.random.default_rng(0).normal(size=7).astype(np.float32)
    poses = wings.array(wing, np.tile(pose, (1, 3, 1)))
    # Each by itself: in a batch, some processors' products of matrices round the last rows apart.
    first, second, third = (
        wings.numpy(net.reconstruct(poses, wings.array(wing, np.int32([label]))))
        for label in range(3)
    )
    assert (first == second).all()
    assert (first == third).all()
    others = np.tile(pose, (1, 3, 1))
    others[:, 1:] += 5
    alone = wings.numpy(
        net.reconstruct(wings.array(wing, others), wings.array(wing, np.int32([0])))
    )
    near(alone, first, 1e-6, "the others' poses have no part in it")


def test_the_reconstruction_is_a_mean_over_all_numbers():
    for name in ("deepcaps", "deepcaps-32", "deepcaps-mnist"):
        spec = preset(name)
        images, decoded = np.zeros((2, *spec.image)), np.full((2, *spec.image), 0.5)
        error = spec.loss.reconstruction * reference.reconstruction(decoded, images)
        assert error == pytest.approx(0.4 * 0.25)


def test_first_weights_are_those_of_the_released_code():
    spec, rows = preset("deepcaps-mnist"), table(preset("deepcaps-mnist"))
    drawn = draw(spec, 0)
    assert (drawn["cell.3.skip.bias"] == np.float32(0.1)).all()
    # Keras: both fans of a kernel of six axes are the root of all its numbers.
    assert rows["cell.2.caps.1.kernel"].bound == pytest.approx(np.sqrt(3 / 768))
    assert rows["digit.kernel"].bound == pytest.approx(np.sqrt(6 / (640 * 10 * 40)))
    assert rows["digit.bias"].bound == pytest.approx(np.sqrt(6 / 42))
    assert drawn["cell.3.skip.kernel"].std() == pytest.approx(np.sqrt(2 / 72), rel=0.02)
    for name in ("stem.0.kernel", "decoder.0.kernel", "digit.kernel"):
        assert 0.9 * rows[name].bound < np.abs(drawn[name]).max() <= rows[name].bound


HARD = TrainingSpec(decay_rate=0.5, decay_steps=10, schedule="staircase", hard_step=30)


def test_the_hard_loss_and_the_rate_begin_again():
    rates = [schedule.learning_rate(HARD, step) for step in (0, 9, 10, 29, 30, 39, 40)]
    assert rates == [1e-3, 1e-3, 5e-4, 2.5e-4, 1e-3, 1e-3, 5e-4]
    margins = [schedule.margin(HARD, Loss(), step) for step in (0, 29, 30, 10**6)]
    assert margins == [(0.9, 0.1, 0.5), (0.9, 0.1, 0.5), (0.95, 0.05, 0.8), (0.95, 0.05, 0.8)]
    assert schedule.margin(TrainingSpec(), Loss(), 10**6) is None
    with pytest.raises(SpecError, match="step is -1"):
        schedule.margin(HARD, Loss(), -1)


@wings.jax_slow
def test_a_step_takes_the_margins_of_its_number(wing):
    trainer = wing.Trainer(TINY, dataclasses.replace(HARD, optimizer="sgd"))
    images, labels = batch(TINY)
    for step in (29, 30):
        trainer.set_state({**trainer.get_state(), "step": step})
        positive, negative, weight = schedule.margin(HARD, TINY.loss, step)
        loss = dataclasses.replace(
            TINY.loss, positive=positive, negative=negative, down_weight=weight
        )
        weights = trainer.get_state()["weights"]
        spec = dataclasses.replace(TINY, loss=loss)
        seen = reference.forward(spec, weights, images, labels, train=True)
        near(trainer.step(images, labels)["loss"], seen["loss"], 1e-5, f"step {step}")


@wings.jax_slow
def test_state_moves_with_a_step(wing):
    trainer, (images, labels) = wing.Trainer(TINY, TrainingSpec()), batch(TINY)
    weights = trainer.get_state()["weights"]
    seen = reference.forward(TINY, weights, images, labels, train=True)
    trainer.step(images, labels)
    after = trainer.get_state()["weights"]
    assert {name.rpartition(".")[0] for name in state(TINY)} == {"stem.0.norm", "decoder.1.norm"}
    for name in state(TINY):
        near(after[name], seen[name], 1e-5, name)


@wings.jax_slow
def test_weights_travel_through_files_of_every_kind(wing, tmp_path):
    first = wing.weights.to_numpy(wing.build(TINY, seed=4))
    travels(wing, TINY, {name: array + 0.1 for name, array in first.items()}, tmp_path)


@wings.jax_slow
def test_each_part_of_an_image_has_a_reconstruction(wing):
    """All of a batch's pictures are normalised together, in both wings as in the oracle."""
    images, _ = batch(TINY, 3)
    labels, pictures = np.array([[0, 2], [1, 0], [2, 1]]), batch(TINY, 6, 1)[0]
    parts = labels, pictures.reshape(3, 2, *TINY.image)
    targets = np.eye(3, dtype=int)[labels].sum(1)
    net = wing.build(TINY, seed=2)
    values, _ = wing.tracing.trace(net, images, targets, parts)
    weights = wing.weights.to_numpy(net)
    expected = reference.forward(TINY, weights, images, targets, parts=parts, train=True)
    assert values["reconstruction"].shape == parts[1].shape
    for name in ("decoder.1.norm", "reconstruction", "loss"):
        near(values[name], expected[name], 1e-5, name)


def test_a_spec_comes_back_from_its_json():
    for spec in (TINY, RELEASED, PLAIN):
        values = json.loads(json.dumps(to_dict(spec)))
        assert (values["network"], values["skip"]["name"]) == ("deepcaps", "dynamic_3d")
        assert from_dict(NetworkSpec, values) == spec


REFUSED = {
    "capsules: 1 cells; expected at least 2": {"capsules": (CapsuleLayer(),)},
    "has 3 types of 5, the one before it 2 of 5; expected as many": {
        "capsules": (CapsuleLayer(2, 5, stride=2), CapsuleLayer(3, 5, stride=2))
    },
    "skip: routing dynamic has no places to route to": {"skip": Routing()},
    "strides make a map 8 times as large; expected one that divides the image's 12x8": {
        "upsampling": Transposed(channels=(5, 2), strides=(2, 2, 2))
    },
    "decoder: 17 numbers of the last dense layer become a map of 3x2": {"decoder": (17,)},
    "upsampling: needs dense layers before it": {"decoder": ()},
    "routing em takes votes, activations; network deepcaps has votes to give": {
        "routing": Routing("em")
    },
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_built_is_refused(message):
    with pytest.raises(SpecError) as error:
        dataclasses.replace(TINY, **REFUSED[message])
    assert message in str(error.value)


def test_a_decoder_that_cannot_be_is_refused():
    with pytest.raises(SpecError, match="2 widths and 2 strides; expected one stride more"):
        Transposed(channels=(5, 2), strides=(1, 2))
    with pytest.raises(SpecError, match="a stride of 4 is larger than the kernel of 3"):
        Transposed(channels=(5,), strides=(1, 4))


@wings.jax_slow
def test_a_batch_of_one_number_is_refused_in_training(wing):
    spec = dataclasses.replace(
        PLAIN, image=(1, 1, 2), norm=Norm(), capsules=(CapsuleLayer(2, 3), CapsuleLayer(2, 3))
    )
    with pytest.raises(SpecError, match=r"batch norm: 1 number a channel .*use a larger batch"):
        wing.Trainer(spec, TrainingSpec()).step(*batch(spec, 1))
