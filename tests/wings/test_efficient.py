"""Efficient-CapsNet: the authors' own numbers, state that is no parameter, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
import wings
from specs import PRIMES
from test_golden import GOLDEN
from weight_files import travels

from parity import reference
from parity.spec import (
    NORMS,
    Conv,
    Depthwise,
    Efficient,
    Loss,
    NetworkSpec,
    Norm,
    Pixels,
    SpecError,
    TrainingSpec,
    Upsampling,
    from_dict,
    preset,
    to_dict,
)
from parity.weights import WeightsError, draw, state, table

TINY = Efficient(
    image=(11, 11, 2),
    stem=(Conv(5, 3), Conv(6, 3, 2)),
    primary=Depthwise(types=3, size=2, kernel=4),
    classes=3,
    pose=5,
    decoder=(7,),
)
# 12x12 of 16 numbers: 4 -> 8 - 1 -> 14 - 1 -> 13 - 1
UPSAMPLED = dataclasses.replace(
    TINY,
    image=(12, 12, 2),
    pixels=Pixels(own=True),
    norm=Norm("instance", first=True, bound=0.05),
    slope=0.3,
    decoder=(16,),
    upsampling=Upsampling(channels=(3, 5), kernel=2, slope=0.2),
)


def near(actual, expected, tolerance: float, what: str) -> None:
    assert wings.difference(np.asarray(actual), expected) < tolerance, what


def cases(name: str):
    with np.load(GOLDEN / f"efficient_{name}.npz") as file:
        found = dict(file)
    heads = sorted({key.partition(".")[0] for key in found})
    if heads[0] != "case0":
        return [found]
    return [{k.partition(".")[2]: a for k, a in found.items() if k.startswith(h)} for h in heads]


def holds(wing, function, arrays, cotangent, value, slopes, tolerance=1e-12) -> None:
    """The oracle's and a wing's value and gradients against golden ones."""
    near(function(reference)(*arrays), value, tolerance, "oracle")
    for place, expected in enumerate(slopes):

        def loss(x, place=place):
            changed = [*arrays[:place], x, *arrays[place + 1 :]]
            return (function(reference)(*changed) * cotangent).sum()

        near(reference.gradient(loss, arrays[place]), expected, tolerance, f"oracle {place}")
    got, found = wings.gradients(wing, function(wing), arrays, cotangent)
    near(got, value, tolerance, "wing")
    for place, (actual, expected) in enumerate(zip(found, slopes, strict=True)):
        near(actual, expected, tolerance, f"wing {place}")


@pytest.mark.float64
@wings.jax_slow
def test_squash_of_the_authors(wing):
    for case in cases("squash"):
        given = [case["x"]], case["cotangent"], case["y"], [case["grad_x"]]
        holds(wing, lambda tree: tree.capsules.exponential_squash, *given)


@pytest.mark.float64
@wings.jax_slow
def test_routing_of_the_authors(wing):
    names = "inputs_BIK", "kernel_IJKD", "prior_IJ"

    def function(tree):
        def route(inputs, kernel, prior):
            votes = tree.capsules.votes(inputs, kernel)
            return tree.routing.self_attention(votes, prior_IJ=prior)[0]

        return route

    for case in cases("routing"):
        slopes = [case[f"grad_{name}"] for name in names]
        given = [case[name] for name in names], case["cotangent_BJD"]
        holds(wing, function, *given, case["poses_BJD"], slopes)
        seen = {}

        def tap(name, x, seen=seen):
            seen[name.removeprefix("routing.0.")] = x
            return x

        votes = reference.votes(case["inputs_BIK"], case["kernel_IJKD"])
        reference.routing.self_attention(votes, prior_IJ=case["prior_IJ"], tap=tap)
        for name in ("logits_BIJ", "softmax_BIJ", "coupling_BIJ", "sum_BJD"):
            near(seen[name.partition("_")[0]], case[name], 1e-12, name)


@pytest.mark.float64
@wings.jax_slow
def test_primary_capsules_of_the_authors(wing):
    names = "x", "kernel", "bias"
    for case in cases("primary"):
        kernel = case["kernel"][:, :, 0]

        def function(tree, case=case):
            def capsules(x, filters, bias):
                if tree.__name__ == "torch_caps":
                    filters = filters.permute(2, 0, 1)
                y = tree.convolution.depthwise(x, filters, int(case["stride"]))
                y = y + bias.reshape(1, 1, 1, -1)
                poses = y.reshape(len(y), -1, int(case["size"]))
                return tree.capsules.exponential_squash(poses)

            return capsules

        slopes = [case[f"grad_{name}"] for name in names]
        slopes[1] = slopes[1][:, :, 0]
        arrays = [case["x_BHWC"], kernel, case["bias"]]
        holds(wing, function, arrays, case["cotangent"], case["poses_BIK"], slopes)


@pytest.mark.float64
@pytest.mark.parametrize("kind", ["batch_train", "batch_eval", "instance"])
def test_norms_of_the_authors(wing, kind):
    (case,) = cases("norms")
    running = case["mean"], case["variance"]

    def function(tree):
        def normal(x, scale, shift):
            if kind == "instance":
                return tree.norm.instance(x, scale, shift, epsilon=1e-3)
            how = {"train": kind == "batch_train", "keep": 0.99, "epsilon": 1e-3}
            held = running if tree is reference else [wings.array(wing, each) for each in running]
            return tree.norm.batch(x, scale, shift, *held, **how)[0]

        return normal

    arrays = [case[name] for name in ("x", "gamma", "beta")]
    slopes = [case[f"{kind}.grad_{name}"] for name in ("x", "gamma", "beta")]
    holds(wing, function, arrays, case["cotangent"], case[f"{kind}.y"], slopes)
    if kind == "batch_train":
        given = [wings.array(wing, each) for each in (*arrays, *running)]
        _, mean, variance = wing.norm.batch(*given, train=True, keep=0.99, epsilon=1e-3)
        near(wings.numpy(mean), case[f"{kind}.new_mean"], 1e-12, "mean")
        near(wings.numpy(variance), case[f"{kind}.new_variance_unbiased"], 1e-12, "variance")


def test_a_batch_norm_of_thousands_of_places_is_as_good_as_float32(wing):
    """Added up one by one, as the library's does in torch, they leave values some 1e-5 off."""
    x = np.random.default_rng(0).standard_normal((31, 23, 29, 5), np.float32)
    x = 0.3 * np.maximum(x, 0) + np.float32(0.2)
    ones, zeros = np.ones(5, np.float32), np.zeros(5, np.float32)
    how = {"train": True, "keep": 0.99, "epsilon": 1e-3}
    right = reference.norm.batch(x.astype(float), ones, zeros, zeros, ones, **how)[0]
    given = (wings.array(wing, each) for each in (x, ones, zeros, zeros, ones))
    near(wings.numpy(wing.norm.batch(*given, **how)[0]), right, 1e-6, "value")


@pytest.mark.float64
@wings.jax_slow
def test_losses_of_the_authors(wing):
    (case,) = cases("losses")

    def function(tree):
        labels = case["labels"] if tree is reference else wings.array(wing, case["labels"])
        return lambda poses: tree.losses.margin(tree.capsules.lengths(poses, 1e-7), labels)

    given = [case["poses_BJD"]], np.float64(1), case["margin"], [case["grad_poses_BJD"]]
    holds(wing, function, *given)
    near(reference.lengths(case["poses_BJD"], 1e-7), case["lengths_BJ"], 1e-12, "lengths")


@pytest.mark.float64
@pytest.mark.parametrize("mode", wings.wide(["train", "eval"], "train".__eq__))
def test_the_network_of_the_authors(wing, mode):
    (case,) = cases("network")
    told = json.loads(str(case["spec"]))
    primary = {name: told["primary"][name] for name in ("types", "size", "kernel", "stride")}
    spec = Efficient(
        image=tuple(told["image"]),
        stem=tuple(Conv(**each) for each in told["stem"]),
        primary=Depthwise(**primary),
        classes=told["classes"],
        pose=told["pose"],
        decoder=tuple(told["decoder"]),
        loss=Loss(reconstruction=0.392 / 169),
    )
    head = "weights/"
    weights = {n.removeprefix(head): a for n, a in case.items() if n.startswith(head)}
    weights["primary.kernel"] = weights["primary.kernel"][:, :, 0]
    net = wing.build(spec, precision="float64")
    wing.weights.from_numpy(net, weights)
    images, labels = case["images"], case["labels"]
    values, slopes = wing.tracing.trace(net, images, labels, train=mode == "train")
    expected = reference.forward(spec, weights, images, labels, train=mode == "train")
    names = {"stem.0": "stem.0.norm", "stem.1": "stem.1.norm", "poses": "routing.0.poses"}
    for name in ("stem.0", "stem.1", "primary.poses", "poses", "lengths", "reconstruction", "loss"):
        for found in (values, expected):
            near(found[names.get(name, name)], case[f"{mode}/{name}"], 1e-11, name)
    for key, golden in case.items():
        name = key.removeprefix(f"{mode}/grad/")
        if name != key:
            golden = golden[:, :, 0] if name == "primary.kernel" else golden
            found = slopes["image" if name == "images" else f"parameter/{name}"]
            near(found, golden, 1e-11, key)
    if mode == "train":
        for name in state(spec):
            golden = case[f"train/new/{name}{'_unbiased' * name.endswith('variance')}"]
            near(values[name], golden, 1e-11, name)
            near(expected[name], golden, 1e-11, name)


def test_the_numbers_of_parameters_are_the_papers():
    counts = {"efficient": 161_824, "efficient-multimnist": 154_656, "efficient-smallnorb": 151_664}
    for name, count in counts.items():
        rows = table(preset(name)).items()
        kept = [r for n, r in rows if r.trained and not n.startswith("decoder.")]
        assert sum(np.prod(row.shape) for row in kept) == count
    assert (
        sum(np.prod(r.shape) for r in table(preset("efficient")).values() if not r.trained) == 576
    )


@pytest.mark.parametrize("spec", [TINY, UPSAMPLED], ids=["tiny", "upsampled"])
def test_a_spec_comes_back_from_its_json(spec):
    values = json.loads(json.dumps(to_dict(spec)))
    assert values["network"] == "efficient"
    assert from_dict(NetworkSpec, values) == spec
    assert "network" not in to_dict(NetworkSpec())


def test_first_weights_are_uniform_where_the_authors_draw_them_so():
    rows = table(UPSAMPLED)
    drawn = draw(UPSAMPLED, 3)
    for name in ("primary.kernel", "stem.0.norm.scale", "stem.1.norm.shift"):
        assert 0.5 * rows[name].bound < np.abs(drawn[name]).max() <= rows[name].bound


def batch(spec: NetworkSpec = TINY, count: int = 6, seed: int = 0):
    random = np.random.default_rng(seed)
    images = random.random((count, *spec.image), np.float32)
    return images, random.integers(0, spec.classes, count)


def follows_the_oracle(wing, spec, weights, tolerance=1e-5, precision="float32", train=True):
    """Every tensor of a forward pass with these weights, and no other, as the oracle has it."""
    images, labels = batch(spec)
    net = wing.build(spec, precision=precision)
    wing.weights.from_numpy(net, weights)
    values, _ = wing.tracing.trace(net, images.astype(precision), labels, train=train)
    expected = reference.forward(spec, weights, images, labels, train=train)
    assert [key for key in values if not key.startswith("parameter/")] == list(expected)
    for name, array in expected.items():
        near(values[name], array, tolerance, name)


@wings.jax_slow
@pytest.mark.parametrize("optimizer", wings.wide(["adam", "sgd"], "adam".__eq__))
def test_state_moves_with_a_step_and_has_no_slot_but_an_average(wing, optimizer):
    training = TrainingSpec(optimizer=optimizer, ema=0.9, clip_norm=0.5)
    trainer = wing.Trainer(TINY, training)
    images, labels = batch()
    before = trainer.get_state()
    trainer.evaluate(images, labels, np.ones(6, np.float32))
    trainer.poses(images)
    same = trainer.get_state()["weights"]
    assert all((same[name] == array).all() for name, array in before["weights"].items())
    trainer.step(images, labels)
    after = trainer.get_state()
    seen = reference.forward(TINY, before["weights"], images, labels, train=True)
    for name in state(TINY):
        near(after["weights"][name], seen[name], 1e-5, name)
        average = 0.9 * before["weights"][name] + 0.1 * after["weights"][name]
        near(after["optimizer"][f"ema/{name}"], average, 1e-6, name)
        assert {n for n in after["optimizer"] if n.endswith(name)} == {f"ema/{name}"}
    again = wing.Trainer(TINY, training)
    again.set_state(after)
    for trained in (trainer, again):
        trained.step(images, labels)
    states = [each.get_state() for each in (trainer, again)]
    for group in ("weights", "optimizer"):
        for name, array in states[0][group].items():
            assert (states[1][group][name] == array).all(), name


def test_padding_of_weight_0_is_exact(wing):
    trainer = wing.Trainer(TINY, TrainingSpec())
    images, labels = batch()
    weights = np.array([1, 1, 1, 0, 0, 0], np.float32)
    whole = trainer.evaluate(images, labels, weights)
    images[3:] = 0
    assert trainer.evaluate(images, labels, weights) == whole


@wings.jax_slow
def test_a_call_never_changes_the_network_and_new_state_comes_back(wing):
    net = wing.build(TINY)
    images, labels = batch()
    before = wing.weights.to_numpy(net)
    capsules, new = net.capsules(images, train=True)
    assert set(new) == set(state(TINY))
    assert tuple(capsules.poses.shape) == (6, 3, 5)
    assert net.capsules(images)[1] == {}
    assert set(net.terms(images, labels, train=True)["state"]) == set(state(TINY))
    after = wing.weights.to_numpy(net)
    assert all((after[name] == array).all() for name, array in before.items())
    scores = wings.numpy(net.scores(images))
    near(scores.argmax(-1), wings.numpy(net.predict(images)), 1e-9, "")
    # Scores are what a loss and an accuracy see, with the epsilon under the root.
    poses = wings.numpy(capsules.poses) * 0
    near(scores, reference.lengths(wings.numpy(net(images)), TINY.length_epsilon), 1e-6, "scores")
    assert TINY.length_epsilon > 0
    assert reference.lengths(poses, TINY.length_epsilon).min() > 3e-4


@wings.jax_slow
@pytest.mark.parametrize("kind", wings.wide(NORMS, "batch".__eq__))
@pytest.mark.parametrize("first", wings.wide([False, True], bool))
def test_every_norm_is_the_oracles(wing, kind, first):
    pixels = Pixels(mean=(0.3, 0.4), deviation=(0.5, 0.7))
    if kind == "batch":  # then by an image's own numbers, of both channels together
        pixels = dataclasses.replace(pixels, own=True, joint=True)
    norm = Norm(kind, first=first, bound=0.5)
    spec = dataclasses.replace(TINY, norm=norm, slope=0.3, pixels=pixels)
    images, labels = batch()
    net = wing.build(spec, seed=2)
    for train in (True, False):
        values, slopes = wing.tracing.trace(net, images, labels, train=train)
        weights = wing.weights.to_numpy(net)
        expected = reference.forward(spec, weights, images, labels, train=train)
        for name, array in expected.items():
            near(values[name], array, 2e-5, name)
        if first and kind != "layer" and (train or kind != "batch"):
            largest = np.abs(slopes["parameter/stem.0.kernel"]).max()
            assert table(spec)["stem.0.bias"].free
            assert np.abs(slopes["parameter/stem.0.bias"]).max() < 1e-5 * largest


@wings.jax_slow
def test_the_decoder_that_doubles_images_is_the_oracles(wing):
    net = wing.build(UPSAMPLED, seed=1)
    images, labels = batch(UPSAMPLED)
    values, _ = wing.tracing.trace(net, images, labels)
    expected = reference.forward(UPSAMPLED, wing.weights.to_numpy(net), images, labels, train=True)
    assert values["reconstruction"].shape == images.shape
    near(values["reconstruction"], expected["reconstruction"], 1e-5, "reconstruction")


@pytest.mark.parametrize("spec", [TINY, UPSAMPLED], ids=["tiny", "upsampled"])
def test_weights_travel_through_files_of_every_kind(wing, tmp_path, spec):
    first = wing.weights.to_numpy(wing.build(spec, seed=4))
    travels(wing, spec, {name: array + 0.1 for name, array in first.items()}, tmp_path)


def test_rows_that_do_not_fit_are_named_at_once(wing):
    net = wing.build(TINY)
    weights = wing.weights.to_numpy(net)
    del weights["stem.0.norm.mean"], weights["stem.1.norm.variance"]
    weights["stem.9.norm.mean"] = np.zeros(3, np.float32)
    with pytest.raises(WeightsError) as error:
        wing.weights.from_numpy(net, weights)
    for each in ("missing stem.0.norm.mean", "missing stem.1.norm.variance", "unexpected stem.9"):
        assert each in str(error.value)


def test_a_batch_of_one_number_is_refused_in_training(wing):
    spec = dataclasses.replace(
        TINY, image=(3, 3, 2), stem=(Conv(6, 3),), primary=Depthwise(3, 2, 1), decoder=None
    )
    trainer = wing.Trainer(spec, TrainingSpec())
    with pytest.raises(SpecError, match=r"batch norm: 1 number a channel .*use a larger batch"):
        trainer.step(*batch(spec, 1))
    assert np.isfinite(trainer.step(*batch(spec, 2))["loss"])


def test_another_networks_spec_is_refused(wing):
    with pytest.raises(SpecError, match="build\\(spec\\) makes any network"):
        wing.CapsuleNetwork(TINY)
    with pytest.raises(SpecError, match="build\\(spec\\) makes any network"):
        wing.networks.EfficientNetwork(PRIMES)


REFUSED = {
    "network 'other' is unknown; expected one of sabour2017, efficient": {"network": "other"},
    "have a filter for each of 6 channels, the stem makes 5": {"stem": (Conv(5, 3),)},
    "kernel of 5x5 (stride 1) is larger than its input of 4x4": {"primary": Depthwise(3, 2, 5)},
    "pixels: mean has 3 numbers; expected 1 or 2": {"pixels": Pixels(mean=(0.0, 0.1, 0.2))},
    "upsampling: 16 numbers of the last dense layer become an image of 24x24": {
        "decoder": (16,),
        "upsampling": Upsampling(channels=(3, 5, 7), kernel=2),
    },
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_built_is_refused(message):
    with pytest.raises(SpecError) as error:
        dataclasses.replace(TINY, **REFUSED[message])
    assert message in str(error.value)


def test_joint_pixels_that_are_not_an_images_own_are_refused():
    with pytest.raises(SpecError, match=r"joint is on and own is off; .* set own=True"):
        Pixels(joint=True)


@pytest.mark.parametrize("values", [{"kind": "group"}, {"keep": 1.0}, {"epsilon": 0.0}])
def test_a_norm_that_is_none_is_refused(values):
    with pytest.raises(SpecError, match="norm: "):
        Norm(**values)
