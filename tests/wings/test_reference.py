"""The oracle against values worked out by hand, slow loops and invariants."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from parity import reference
from parity.reference import norm
from parity.spec import ROUTINGS, Conv, Loss, NetworkSpec, Primary, Routing, TwincapsError
from parity.weights import table

B, I, J, D = 2, 5, 3, 7  # noqa: E741 (the axes' letters)
OPTIONS = [
    {"num_iters": r, "bias": bias, "leaky": leaky}
    for r, bias, leaky in itertools.product((1, 2, 3, 5), (False, True), (False, True))
]
SPEC = NetworkSpec(
    image=(7, 11, 2),
    stem=(Conv(3, 2), Conv(5, 2, 2)),
    primary=Primary(types=2, size=3, kernel=2, stride=1, scale=0.7),
    classes=J,
    pose=D,
    routing=Routing(bias=True, leaky=True),
    decoder=(11, 13),
    loss=Loss(positive=0.8, negative=0.15, down_weight=0.4, scale=0.6, class_mean=True),
)
PLAIN = replace(SPEC, routing=Routing(num_iters=2, detach=True), stem=(), decoder=None, loss=Loss())
ROUTED = [f"routing.{t}.{x}" for t in range(3) for x in ("logits", "coupling", "sum", "poses")]
NAMES = [
    *("image", "stem.0", "stem.1", "primary.conv", "primary.poses", "votes", *ROUTED),
    *("lengths", "reconstruction", "loss.margin", "loss.reconstruction", "loss"),
]
SWITCHED = [routing for kind in ROUTINGS.values() for routing in kind.switched()]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).standard_normal(shape)


def network(spec: NetworkSpec, seed: int = 0):
    """Random values in every parameter, images and labels of a batch of B."""
    rows = table(spec).items()
    arrays = {name: 0.4 * normal(*row.shape, seed=seed + n) for n, (name, row) in enumerate(rows)}
    images = np.random.Generator(np.random.Philox(seed)).random((B, *spec.image))
    return arrays, images, np.array([2, 0])


def close(actual, expected, tolerance=1e-14):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, strict=True)


# By hand.


def test_squash_by_hand():
    close(reference.squash([[3, 4], [0, -1]]), np.array([[15 / 26, 20 / 26], [0, -1 / 2]]))
    close(reference.squash([[3, 0], [4, -1]], axis=0), np.array([[15 / 26, 0], [20 / 26, -1 / 2]]))


def test_lengths_and_votes_by_hand():
    close(reference.lengths([[3, 4], [0, 0]]), np.array([5.0, 0.0]))
    kernel = np.arange(6.0).reshape(1, 1, 2, 3)
    close(reference.votes([[[10, 100]]], kernel), np.array([[[[300.0, 410, 520]]]]))


def test_softmax_by_hand():
    logits = np.log([[1.0, 2, 5]])
    close(reference.softmax(logits), np.array([[1, 2, 5]]) / 8)
    close(reference.softmax(logits, leaky=True), np.array([[1, 2, 5]]) / 9)
    huge = reference.softmax(np.array([[-1e4, -2e4]]), leaky=True)
    assert (huge == 0).all(), "an input that agrees with no output goes to the leak"


def test_two_iterations_by_hand():
    """One input votes 1 and 2; the first poses are 0.25/1.25 and 1/2, so logits 0.2 and 1."""
    poses, coupling = reference.routing.dynamic([[[[1.0], [2.0]]]], num_iters=2)
    first = 1 / (1 + math.exp(0.8))
    sums = np.array([first, 2 * (1 - first)])
    close(coupling, np.array([[[first, 1 - first]]]))
    close(poses, (sums**2 / (1 + sums**2)).reshape(1, 2, 1))


@pytest.mark.parametrize("targets", [[0, 2], [[1, 0, 0], [0, 0, 1]]])
def test_margin_by_hand(targets):
    """(0.1^2 + 0.5 * 0.2^2 + 0) and (0.5 * 0.4^2 + 0 + 0.6^2), their mean."""
    lengths = [[0.8, 0.3, 0.05], [0.5, 0.1, 0.3]]
    close(reference.margin(lengths, targets), np.float64((0.03 + 0.44) / 2))


def test_margin_options_by_hand():
    options = {"positive": 0.7, "negative": 0.2, "down_weight": 0.25, "scale": 3.0}
    close(reference.margin([[0.4, 0.4]], [0], **options), np.float64(3 * (0.3**2 + 0.25 * 0.2**2)))
    both = reference.margin([[0.4, 0.4]], [[1, 1]], **options)
    close(both, np.float64(3 * 2 * 0.3**2))


def test_reconstruction_by_hand():
    close(reference.reconstruction([[[1, 2]], [[0, 0]]], [[[0, 4]], [[1, 1]]]), np.float64(3.5))


def test_mask_and_activations_by_hand():
    poses = np.arange(1.0, 13).reshape(2, 3, 2)
    expected = np.zeros((2, 3, 2))
    expected[0, 2], expected[1, 0] = [5, 6], [7, 8]
    close(reference.mask(poses, [2, 0]), expected)
    close(reference.relu(np.array([-2.0, 0, 3])), np.array([0.0, 0, 3]))
    close(reference.sigmoid(np.array([-1e4, 0, np.log(3), 1e4])), np.array([0, 0.5, 0.75, 1]))


# Against slow loops.


def slow_dynamic(votes, num_iters, bias, leaky):
    """Procedure 1, one number at a time."""
    poses, couplings = np.zeros((B, J, D)), np.zeros((B, I, J))
    for b in range(B):
        logits = [[0.0] * J for _ in range(I)]
        for _ in range(num_iters):
            for i in range(I):
                total = sum(math.exp(x) for x in logits[i]) + (1 if leaky else 0)
                for j in range(J):
                    couplings[b, i, j] = math.exp(logits[i][j]) / total
            for j in range(J):
                s = [float(bias[j][d]) for d in range(D)]
                for i, d in itertools.product(range(I), range(D)):
                    s[d] += couplings[b, i, j] * votes[b, i, j, d]
                length = math.sqrt(sum(x * x for x in s))
                poses[b, j] = [x / length * length**2 / (1 + length**2) for x in s]
            for i, j in itertools.product(range(I), range(J)):
                logits[i][j] += sum(votes[b, i, j, d] * poses[b, j, d] for d in range(D))
    return poses, couplings


@pytest.mark.parametrize("options", OPTIONS)
def test_dynamic_against_loops(options):
    votes, bias = normal(B, I, J, D), normal(J, D, seed=1) * options["bias"]
    expected = slow_dynamic(votes, options["num_iters"], bias, options["leaky"])
    given = bias if options["bias"] else None
    actual = reference.routing.dynamic(
        votes, num_iters=options["num_iters"], bias_JD=given, leaky=options["leaky"]
    )
    for got, want in zip(actual, expected, strict=True):
        close(got, want)


@pytest.mark.parametrize(("kernel", "stride"), [((2, 3), 1), ((3, 2), 2), ((1, 5), 3)])
def test_conv_against_loops(kernel, stride):
    x, weights = normal(B, 7, 11, 3), normal(*kernel, 3, 5, seed=1)
    height, width = ((n - k) // stride + 1 for n, k in zip((7, 11), kernel, strict=True))
    expected = np.zeros((B, height, width, 5))
    for b, h, w, o in np.ndindex(*expected.shape):
        for m, n, c in np.ndindex(*kernel, 3):
            pixel = x[b, h * stride + m, w * stride + n, c]
            expected[b, h, w, o] += pixel * weights[m, n, c, o]
    close(reference.conv(x, weights, stride), expected)


def test_forward_layer_by_layer():
    """Each tensor of a pass, from the one before it, with the order of capsules spelt out."""
    arrays, images, labels = network(SPEC)
    seen = reference.forward(SPEC, arrays, images, labels)
    assert list(seen) == NAMES
    conv, squash = reference.conv, reference.squash
    first = conv(images, arrays["stem.0.kernel"], 1) + arrays["stem.0.bias"]
    close(seen["stem.0"], np.maximum(first, 0))
    second = conv(seen["stem.0"], arrays["stem.1.kernel"], 2) + arrays["stem.1.bias"]
    close(seen["stem.1"], np.maximum(second, 0))
    primary = conv(seen["stem.1"], arrays["primary.kernel"], 1) * 0.7 + arrays["primary.bias"]
    close(seen["primary.conv"], primary)
    (height, width), types, size = SPEC.grid, 2, 3
    assert height != width, "a square grid would hide a wrong order"
    for h, w, t in np.ndindex(height, width, types):
        pose = primary[:, h, w, t * size : (t + 1) * size]
        close(seen["primary.poses"][:, (h * width + w) * types + t], squash(pose))
    close(seen["votes"], np.einsum("bik,ijkd->bijd", seen["primary.poses"], arrays["digit.kernel"]))
    poses, coupling = reference.routing.dynamic(
        seen["votes"], bias_JD=arrays["digit.bias"], leaky=True
    )
    close(seen["routing.2.poses"], poses)
    close(seen["routing.2.coupling"], coupling)
    close(seen["lengths"], np.linalg.norm(poses, axis=-1))
    x = np.zeros((B, J, D))
    for b, label in enumerate(labels):
        x[b, label] = poses[b, label]
    x = x.reshape(B, J * D)
    for n in range(3):
        x = x @ arrays[f"decoder.{n}.kernel"] + arrays[f"decoder.{n}.bias"]
        x = np.maximum(x, 0) if n < 2 else 1 / (1 + np.exp(-x))
    close(seen["reconstruction"], x.reshape(images.shape))
    options = {"positive": 0.8, "negative": 0.15, "down_weight": 0.4, "scale": 0.6 / J}
    close(seen["loss.margin"], reference.margin(seen["lengths"], labels, **options))
    close(
        seen["loss.reconstruction"], np.float64(((x.reshape(images.shape) - images) ** 2).sum() / B)
    )
    close(seen["loss"], seen["loss.margin"] + 0.0005 * seen["loss.reconstruction"])


def test_forward_without_decoder_stem_or_bias():
    arrays, images, labels = network(PLAIN)
    seen = reference.forward(PLAIN, arrays, images, labels)
    left_out = {"stem.0", "stem.1", "reconstruction", "loss.reconstruction"}
    assert list(seen) == [n for n in NAMES if n not in left_out and not n.startswith("routing.2")]
    close(seen["loss"], reference.margin(seen["lengths"], labels))
    poses, _ = reference.routing.dynamic(seen["votes"], num_iters=2)
    close(seen["routing.1.poses"], poses)


# Invariants.


def test_squash_keeps_direction_and_order_and_stays_below_one():
    x = normal(1000, D) * np.exp(normal(1000, 1, seed=1))
    before, after = reference.lengths(x), reference.lengths(reference.squash(x))
    assert (after < 1).all()
    assert (np.diff(after[np.argsort(before)]) >= 0).all()
    close(reference.squash(x) / after[:, None], x / before[:, None], 1e-13)


@pytest.mark.parametrize("options", OPTIONS)
def test_couplings_sum_to_one_or_leak(options):
    seen = {}
    bias = normal(J, D, seed=1) if options["bias"] else None
    reference.routing.dynamic(
        normal(B, I, J, D),
        num_iters=options["num_iters"],
        bias_JD=bias,
        leaky=options["leaky"],
        tap=lambda name, x: seen.setdefault(name, x),
    )
    for t in range(options["num_iters"]):
        coupling = seen[f"routing.{t}.coupling"]
        assert (coupling > 0).all()
        if options["leaky"]:
            assert (coupling.sum(-1) < 1).all()
        else:
            close(coupling.sum(-1), np.ones((B, I)))
    outputs = J + 1 if options["leaky"] else J
    close(seen["routing.0.coupling"], np.full((B, I, J), 1 / outputs))
    assert f"routing.{options['num_iters']}.logits" not in seen


def test_logits_are_the_votes_times_all_poses_so_far():
    """What lean routing rests on: b = <votes, v_1 + v_2 + ...>."""
    seen, votes = {}, normal(B, I, J, D)
    reference.routing.dynamic(votes, num_iters=5, tap=lambda name, x: seen.setdefault(name, x))
    for t in range(5):
        total = sum((seen[f"routing.{n}.poses"] for n in range(t)), np.zeros((B, J, D)))
        close(seen[f"routing.{t}.logits"], np.einsum("bijd,bjd->bij", votes, total), 1e-13)


def test_margin_is_zero_inside_the_margins():
    lengths = np.array([[0.95, 0.1, 0.02], [0.0, 0.05, 0.9]])
    assert reference.margin(lengths, [0, 2]) == 0
    assert (reference.gradient(lambda x: reference.margin(x, [0, 2]), lengths) == 0).all()
    assert reference.margin(lengths, [1, 2]) > 0


def test_samples_do_not_meet():
    """Routing of a sample does not depend on its batch; losses are means over samples."""
    votes, labels = normal(5, I, J, D), np.array([2, 0, 1, 1, 2])
    poses, coupling = reference.routing.dynamic(votes)
    alone = [reference.routing.dynamic(votes[b : b + 1]) for b in range(5)]
    close(poses, np.concatenate([p for p, _ in alone]))
    close(coupling, np.concatenate([c for _, c in alone]))
    lengths = reference.lengths(poses)
    each = [reference.margin(lengths[b : b + 1], labels[b : b + 1]) for b in range(5)]
    close(reference.margin(lengths, labels), np.mean(each))


@pytest.mark.parametrize("routing", SWITCHED, ids=lambda routing: routing.label)
def test_every_routing_takes_each_sample_on_its_own(routing):
    function, votes = getattr(reference.routing, routing.name), normal(5, I, J, D)
    sizes = {"b": 5, "i": I, "j": J, "k": 4, "d": D}
    given = {
        each.argument(name): normal(*each.shape(sizes), seed=n)
        for n, (name, each) in enumerate(routing.arguments.items())
    } | routing.options
    if "activations_BI" in given:
        given["activations_BI"] = reference.sigmoid(given["activations_BI"])
    taken = [each.argument(name) for name, each in routing.takes.items()]
    whole = function(votes, **given)
    shapes = [(5, J, D), *([(5, J)] if "activations_BI" in taken else []), (5, I, J)]
    assert [each.shape for each in whole] == shapes
    alone = [
        function(votes[b : b + 1], **given | {name: given[name][b : b + 1] for name in taken})
        for b in range(5)
    ]
    for n, each in enumerate(whole):
        close(each, np.concatenate([one[n] for one in alone]))


# Mistakes of the caller.


@pytest.mark.parametrize(
    "targets", [[0, 3], [-1, 0], [[1, 0], [0, 1]], [[2, 0, 0], [0, 1, 0]], 1, [0.5, 1]]
)
def test_wrong_targets_are_refused(targets):
    with pytest.raises(TwincapsError, match="expected labels"):
        reference.margin(np.full((2, 3), 0.5), targets)


def test_no_iterations_are_refused():
    with pytest.raises(TwincapsError, match="num_iters is 0; expected at least 1"):
        reference.routing.dynamic(normal(B, I, J, D), num_iters=0)


def test_a_batch_norm_adds_without_losing_digits():
    """NumPy's sum over all axes at once is ten times as far off."""
    x = normal(8, 28, 28, 5) ** 2
    mean = norm.batch(x, None, None, np.zeros(5), np.ones(5), train=True, keep=0.0, epsilon=1e-3)[1]
    exact = [math.fsum(x[..., channel].flat) / (8 * 28 * 28) for channel in range(5)]
    np.testing.assert_allclose(mean, exact, rtol=1e-15)
