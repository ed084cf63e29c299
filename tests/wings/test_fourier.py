"""A convolution by Fourier transform: the numbers of the direct one, and when it is taken."""

import importlib
import re

import fakes
import numpy as np
import pytest
import wings

from parity import reference
from parity.spec import PRESETS, RunOptions, TwincapsError, preset
from parity.spec.convolution import Sizes, by_fourier, gain, remarks
from parity.weights import fourier as matrices

# batch, height, width, channels; kernel height, width; out; stride
SHAPES = {
    "even grid": (3, 13, 12, 5, 3, 3, 7, 1),
    "odd grid": (3, 13, 11, 5, 3, 5, 7, 1),
    "mixed grid, leftover rows": (2, 13, 11, 3, 4, 4, 5, 2),
    "not square": (2, 7, 19, 3, 2, 5, 5, 2),
    "stride 3, kernel 4": (2, 17, 13, 3, 4, 4, 5, 3),
    "stride 3, kernel 5 by 2": (2, 13, 17, 3, 5, 2, 7, 3),
    "kernel smaller than the stride": (2, 23, 13, 1, 2, 2, 5, 3),
    "one pixel of a kernel": (3, 5, 7, 2, 1, 1, 3, 2),
    "one place": (5, 3, 7, 2, 3, 7, 11, 1),
    "one channel, one image": (1, 17, 19, 1, 9, 9, 1, 1),
    "one row": (3, 1, 11, 2, 1, 4, 3, 2),
    "the paper's, fewer channels": (2, 20, 20, 3, 9, 9, 5, 2),
}
QUICK = ("mixed grid, leftover rows", "kernel smaller than the stride")
PRECISIONS = [
    pytest.param("float32", id="float32"),
    pytest.param("float64", id="float64", marks=pytest.mark.float64),
]
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def case(shape, precision):
    batch, height, width, channels, size_h, size_w, out, stride = shape
    draw = np.random.default_rng(0)
    x = draw.standard_normal((batch, height, width, channels)).astype(precision)
    kernel = draw.standard_normal((size_h, size_w, channels, out)).astype(precision)
    places = (height - size_h) // stride + 1, (width - size_w) // stride + 1
    cotangent = draw.standard_normal((batch, *places, out)).astype(precision)
    return x, kernel, stride, cotangent


def conv(wing, stride, method="fourier"):
    """The wing's convolution of x and a kernel in canonical axes."""
    if wing.__name__ == "torch_caps":
        return lambda x, k: wing.convolution.conv(
            x, k.permute(3, 2, 0, 1), stride, x.dtype, method=method
        )
    return lambda x, k: wing.convolution.conv(x, k, stride, x.dtype, method=method)


def run(wing, x, kernel, stride, cotangent, method="fourier"):
    value, slopes = wings.gradients(wing, conv(wing, stride, method), [x, kernel], cotangent)
    return [value, *slopes]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", wings.wide(SHAPES, QUICK.__contains__))
def test_values_and_gradients_are_those_of_the_direct_form(wing, name, precision):
    arguments = case(SHAPES[name], precision)
    found, expected = run(wing, *arguments), run(wing, *arguments, method="direct")
    for ours, direct in zip(found, expected, strict=True):
        assert wings.difference(ours, direct) < TOLERANCE[precision]
    assert wings.difference(found[0], reference.conv(*arguments[:3])) < TOLERANCE[precision]


@wings.jax_slow
def test_it_is_as_accurate_as_the_direct_form(wing):
    """In float32, against float64: many channels, so that sums are long."""
    x, kernel, stride, _ = case((3, 20, 20, 61, 9, 9, 5, 2), "float32")
    exact = reference.conv(x.astype("float64"), kernel.astype("float64"), stride)
    errors = {
        method: wings.difference(
            wings.numpy(conv(wing, stride, method)(*(wings.array(wing, a) for a in (x, kernel)))),
            exact,
        )
        for method in ("direct", "fourier")
    }
    assert errors["fourier"] < 2 * errors["direct"] < 1e-5


@wings.jax_slow
@pytest.mark.parametrize("value", wings.wide([np.inf, np.nan, 1e30], np.isinf))
def test_pixels_that_no_output_reads_spoil_nothing(wing, value):
    x, kernel, stride, cotangent = case((2, 14, 12, 3, 3, 3, 5, 2), "float32")
    expected = run(wing, x, kernel, stride, cotangent)
    x[:, 13:], x[:, :, 11:] = value, value
    found = run(wing, x, kernel, stride, cotangent)
    for ours, before in zip(found, expected, strict=True):
        assert np.array_equal(ours, before)
    assert not found[1][:, 13:].any()
    assert not found[1][:, :, 11:].any()


def test_an_image_that_is_not_finite_spoils_no_other(wing):
    x, kernel, stride, cotangent = case((3, 13, 11, 3, 4, 4, 5, 2), "float32")
    expected = run(wing, x, kernel, stride, cotangent)
    x[1, 2, 3, 0] = np.inf
    found = run(wing, x, kernel, stride, cotangent)
    for ours, before in zip(found[:2], expected[:2], strict=True):
        assert np.array_equal(ours[::2], before[::2])
    assert not np.isfinite(found[0][1]).any()


def test_the_matrices_invert_each_other():
    """An analysis of a whole grid, times a kernel of one tap, synthesised, is the grid."""
    for grid in ((4, 6), (5, 6), (5, 7)):
        one = matrices.analysis("kernel", grid, (1, 1))
        back = matrices.synthesis("output", grid, grid) @ (
            one * matrices.analysis("input", grid, grid)
        )
        assert np.abs(back - np.eye(back.shape[0])).max() < 1e-14
        rows = Sizes(grid, (1, 1), 1, 1, 1).rows
        assert one.shape == (rows, 1)


def twice(wing, function, x, kernel):
    """A gradient of a gradient of the kernel."""
    if wing.__name__ == "torch_caps":
        torch = importlib.import_module("torch")
        x, kernel = (torch.tensor(each, requires_grad=True) for each in (x, kernel))
        (slope,) = torch.autograd.grad(function(x, kernel).sum(), kernel, create_graph=True)
        return slope.sum().backward()
    grad = importlib.import_module("jax").grad
    return grad(lambda k: grad(lambda k: (function(x, k) ** 2).sum())(k).sum())(kernel)


def forwards(wing, function, x, kernel):
    """A derivative in forward mode along the kernel."""
    x, kernel = (wings.array(wing, each) for each in (x, kernel))
    if wing.__name__ == "torch_caps":
        forward_ad = importlib.import_module("torch").autograd.forward_ad
        with forward_ad.dual_level():
            return function(x, forward_ad.make_dual(kernel, kernel))
    return importlib.import_module("jax").jvp(lambda k: function(x, k), (kernel,), (kernel,))


@pytest.mark.filterwarnings("ignore:.torch.jit.script")  # torch's own, at its first dual number
@pytest.mark.parametrize(
    ("derivative", "what"), [(twice, "second derivatives"), (forwards, "forward-mode derivatives")]
)
def test_what_it_has_not_is_refused_by_name(wing, derivative, what):
    x, kernel, stride, _ = case((2, 7, 5, 2, 3, 2, 3, 2), "float32")
    with pytest.raises(TwincapsError, match=f'no {what}.*convolution="direct"'):
        derivative(wing, conv(wing, stride), x, kernel)


@pytest.mark.slow
def test_transforms_of_functions_reach_it(wing):
    """The gradient of every image by itself, by vmap."""
    x, kernel, stride, _ = case((3, 7, 5, 2, 3, 2, 3, 2), "float32")
    framework = importlib.import_module("torch.func" if "torch" in wing.__name__ else "jax")

    def slopes(method):
        function = conv(wing, stride, method)
        each = framework.grad(lambda k, image: (function(image[None], k) ** 2).sum())
        found = framework.vmap(each, (None, 0))(wings.array(wing, kernel), wings.array(wing, x))
        return wings.numpy(found)

    assert wings.difference(slopes("fourier"), slopes("direct")) < 1e-5


def test_the_choice_is_by_the_sizes_and_the_whole_batch():
    """The 2017 paper's primary layer and DeepCaps' cells, and nothing of a single image."""
    taken = {
        f"{name} {layer}"
        for name, card in PRESETS.items()
        for layer, sizes in card.network.convolutions().items()
        if by_fourier("auto", sizes, card.training.batch_size)
    }
    large = [name for name in PRESETS if name.startswith("sabour2017")]
    cells = {name for name in taken if re.match(r"deepcaps\S* cell\.", name)}
    assert cells
    assert taken - cells == {f"{name} primary" for name in large}
    primary = preset("sabour2017").convolutions()["primary"]
    assert not by_fourier("auto", primary, 1)
    assert not by_fourier("direct", primary, 1000)
    assert gain(primary, 128) > gain(primary, 32) > 1
    assert not by_fourier("fourier", Sizes((64, 64), (3, 3), 1, 7, 7), 128)  # too large a grid


# precision, options of the run, sizes of a layer -> what a training says of it
NARROW, LARGE = Sizes((13, 11), (3, 3), 1, 5, 7), Sizes((64, 64), (3, 3), 1, 7, 7)
DIRECT = "every convolution is direct"
REMARKS = [
    ("bfloat16", {}, NARROW, f"there is none in bfloat16; {DIRECT}"),
    ("float32", {"device": "cuda"}, NARROW, f"there is none on cuda; {DIRECT}"),
    ("float32", {}, LARGE, "stem.0 has 4,096 points, above 2,048; it is direct"),
    ("float32", {}, NARROW, r"stem.0 gains nothing, its cost is \d+\.\d times that of the direct"),
    ("float32", {}, Sizes((20, 20), (9, 9), 2, 256, 256), None),
    ("bfloat16", {"convolution": "auto"}, NARROW, None),
]


@pytest.mark.parametrize(("precision", "options", "sizes", "said"), REMARKS)
def test_what_is_asked_for_and_not_done_is_said(precision, options, sizes, said):
    run = RunOptions(**{"convolution": "fourier", **options})
    found = list(remarks({"stem.0": sizes}, 128, precision, run))
    assert len(found) == (said is not None)
    assert not found or re.match(f"--convolution fourier: {said}", found[0])


@wings.jax_slow
def test_in_bfloat16_it_is_the_direct_form(wing):
    x, kernel, stride, _ = case((2, 7, 5, 2, 3, 2, 3, 2), "float32")
    x, kernel = (wings.array(wing, each) for each in (x, kernel))
    if wing.__name__ == "torch_caps":
        kernel = kernel.permute(3, 2, 0, 1)
    bfloat16 = wing.numerics.dtypes("bfloat16")[1]
    found, direct = (
        wing.convolution.conv(x, kernel, stride, bfloat16, method=method)
        for method in ("fourier", "direct")
    )
    assert found.dtype == bfloat16
    assert bool((found == direct).all())


def test_processes_that_share_a_batch_choose_as_one_does(wing, monkeypatch):
    batches = []
    monkeypatch.setattr(
        wing.convolution, "by_fourier", lambda method, sizes, batch: batches.append(batch)
    )
    x, kernel, stride, _ = case((2, 7, 5, 2, 3, 2, 3, 2), "float32")
    x, kernel = (wings.array(wing, each) for each in (x, kernel))
    if wing.__name__ == "torch_caps":
        kernel = kernel.permute(3, 2, 0, 1)
    wing.convolution.conv(x, kernel, stride, x.dtype, processes=5)
    assert batches == [10]


@pytest.mark.slow
def test_an_evaluation_never_takes_spectra_of_other_weights(wing):
    """Evaluate, step, evaluate, go on from a state, evaluate: as a direct Trainer does."""
    draw = np.random.default_rng(0)
    images = draw.random((5, *fakes.SPEC.image), dtype=np.float32)
    labels, weights = draw.integers(0, fakes.SPEC.classes, 5), np.ones(5, np.float32)
    fast, plain = (
        wing.Trainer(fakes.SPEC, fakes.TRAINING, convolution=method)
        for method in ("fourier", "direct")
    )
    state = plain.get_state()

    def losses():
        found = [each.evaluate(images, labels, weights)["loss"] for each in (fast, plain)]
        assert found[0] == pytest.approx(found[1], rel=1e-5)
        return found[1]

    seen = [losses(), losses()]
    for each in (fast, plain):
        each.step(images, labels)
    seen.append(losses())
    for each in (fast, plain):
        each.set_state(state)
    seen.append(losses())
    assert seen[0] == seen[1] == seen[3] != seen[2]


def test_a_kernel_written_past_torch_s_count_of_versions_is_transformed_again():
    torch, wing = importlib.import_module("torch"), wings.load("torch")
    kernel = torch.nn.Parameter(torch.randn(5, 3, 4, 4))
    x = torch.randn(2, 9, 9, 3)
    with torch.no_grad():
        for _ in range(2):
            found = wing.convolution.conv(x, kernel, 2, x.dtype, method="fourier")
            direct = wing.convolution.conv(x, kernel, 2, x.dtype, method="direct")
            assert wings.difference(wings.numpy(found), wings.numpy(direct)) < 1e-5
            kernel.data.mul_(-2)


@pytest.mark.slow
def test_a_tap_sees_direct_convolutions_unless_the_others_are_asked_for(wing, monkeypatch):
    """So that the first tensor that is not finite is named as the paper's sums make it."""
    # These sizes are small: "auto" is made to take the Fourier form of them.
    chosen = wing.convolution.chosen
    always = lambda of, batch, compute, method: chosen(  # noqa: E731
        of, batch, compute, "fourier" if method == "auto" else method
    )
    monkeypatch.setattr(wing.convolution, "chosen", always)
    images = np.random.default_rng(0).random((3, *fakes.SPEC.image), dtype=np.float32)
    seen = {}
    for method in ("auto", "fourier", "direct"):
        # Not lean, as a tap sees plain routing: its sums round in another order.
        net = wing.CapsuleNetwork(fakes.SPEC, lean=False, convolution=method)
        seen[method] = wings.numpy(net(images, lambda name, x: x))
        seen[f"{method}, no tap"] = wings.numpy(net(images))
    assert np.array_equal(seen["auto"], seen["direct"])
    assert np.array_equal(seen["auto, no tap"], seen["fourier, no tap"])
    assert np.array_equal(seen["fourier"], seen["fourier, no tap"])
    assert not np.array_equal(seen["fourier"], seen["direct"])
