"""Figures: what a wing gives for them, and what is drawn from arrays."""

import dataclasses

import matplotlib
import matplotlib.text
import numpy as np
import pytest
import wings
from specs import NETWORKS, PRIMES

from parity import reference, weights
from parity.data import Split
from parity.figures import (
    _couplings,
    confusion,
    couplings,
    curves,
    glimpse,
    model,
    perturbations,
    reconstructions,
    separations,
    style,
)
from parity.spec import SelfAttention, TrainingSpec, TwincapsError

NAMES = ["nought", "one", "a very long name"]


def random(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, "float32")


def texts(figure) -> list[str]:
    """All that is written in a figure, legends and ticks too."""
    found = figure.findobj(matplotlib.text.Text)
    return [each.get_text() for each in found if each.get_text()]


@pytest.mark.parametrize("lean", [True, False])
@pytest.mark.parametrize(
    "case",
    wings.wide(["primes", "leaky bias detach", "one iteration", "no stem"], "primes".__eq__),
)
def test_a_trainer_gives_poses_couplings_and_reconstructions_as_the_oracle_does(wing, case, lean):
    spec = NETWORKS[case]
    trainer = wing.training.Trainer(spec, TrainingSpec(seed=7), lean=lean)
    assert isinstance(trainer, model.Model)
    images, labels = random(5, *spec.image), np.array([1, 0, 2, 2, 1]) % spec.classes
    arrays = {name: each.astype("float64") for name, each in weights.draw(spec, 7).items()}
    expected = reference.forward(spec, arrays, np.float64(images), labels)
    poses, found = trainer.poses(images), trainer.couplings(images)
    last = spec.routing.num_iters - 1
    assert wings.difference(poses, expected[f"routing.{last}.poses"]) < 1e-5
    assert len(found) == last + 1
    for t, each in enumerate(found):
        assert wings.difference(each, expected[f"routing.{t}.coupling"]) < 1e-5
    drawn = trainer.reconstruct(poses, labels)
    assert wings.difference(drawn, expected["reconstruction"]) < 1e-5


@pytest.mark.parametrize("case", NETWORKS)
def test_the_grid_lies_over_the_middle_of_what_each_capsule_sees(case):
    spec = NETWORKS[case]
    left, right, low, high = _couplings.extent(spec)
    convolutions = [*spec.stem, spec.primary]
    for count, first, last in ((spec.grid[0], high, low), (spec.grid[1], left, right)):
        for place in range(count):
            near = far = place
            for conv in reversed(convolutions):
                near, far = near * conv.stride, far * conv.stride + conv.kernel - 1
            middle = first + (place + 0.5) * (last - first) / count
            assert middle == pytest.approx((near + far) / 2)


def test_the_strongest_coupling_is_of_any_type_at_its_place():
    found = random(2, PRIMES.num_inputs, PRIMES.classes)
    maps = _couplings.strongest(found, PRIMES)
    (height, width), types = PRIMES.grid, PRIMES.primary.types
    assert maps.shape == (2, PRIMES.classes, height, width)
    for y, x in np.ndindex(height, width):
        first = (y * width + x) * types
        assert np.array_equal(maps[:, :, y, x], found[:, first : first + types].max(1))


def test_a_perturbation_changes_one_number_of_the_labels_capsule():
    poses, labels = random(2, 3, 5), np.array([2, 0])
    tweaked, of = perturbations.poses(poses, labels)
    apart = (tweaked - poses.repeat(5 * 11, 0)).reshape(2, 5, 11, 3, 5)
    expected = np.zeros_like(apart)
    for n, number, tweak in np.ndindex(2, 5, 11):
        expected[n, number, tweak, labels[n], number] = (tweak - 5) / 20
    assert np.allclose(apart, expected, atol=1e-7)
    assert np.array_equal(of, labels.repeat(5 * 11))
    assert np.array_equal(poses, random(2, 3, 5))


def test_the_matrix_counts_and_the_worst_mistake_is_the_surest():
    labels, answers = np.array([0, 0, 2, 1, 2]), np.array([0, 1, 2, 1, 0])
    expected = [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
    assert confusion.matrix(labels, answers, 3).tolist() == expected
    lengths = np.array([[0.9, 0, 0], [0.5, 0.6, 0], [0, 0, 1], [0.2, 0.3, 0.1], [0.9, 0.1, 0.3]])
    assert confusion.worst(lengths, labels, 5).tolist() == [4, 1]
    assert confusion.worst(lengths, labels, 1).tolist() == [4]


def test_two_inks_are_told_apart_without_colour_and_darken_one_another():
    full, none = np.ones((1, 1, 1)), np.zeros((1, 1, 1))
    grey = np.array([0.299, 0.587, 0.114])
    first, second, both, paper = (
        float((separations.overlay(a, b) @ grey).item())
        for a, b in ((full, none), (none, full), (full, full), (none, none))
    )
    assert paper == pytest.approx(1)
    assert first - second > 0.2
    assert both < second < first < paper - 0.2


@pytest.mark.parametrize("leaky", [False, True])
def test_entropies_are_those_of_the_couplings_and_the_leak(leaky):
    even = np.full((2, 3, 4), 1 / 5 if leaky else 1 / 4)
    assert np.allclose(glimpse.entropies(even), np.log(5 if leaky else 4))
    sure = np.eye(4)[np.array([[0, 1, 2]])]
    assert np.allclose(glimpse.entropies(sure), 0)


def test_coefficients_with_a_prior_have_no_entropy_and_their_figure_says_so():
    spec = dataclasses.replace(PRIMES, routing=SelfAttention())
    maps = random(1, 3, *spec.grid) - 0.5
    figure = _couplings.draw(random(*spec.image), maps, random(3), [1], spec, list("abc"), "note")
    assert any("even split, 0.33, or less (a learned prior is added)" in x for x in texts(figure))
    inputs = spec.num_inputs

    class Seen:
        def __init__(self, spec):
            self.spec = dataclasses.replace(spec, decoder=None)

        def couplings(self, images):
            return random(1, len(images), inputs, 3) - 0.5

    split = Split(random(5, *spec.image), np.arange(5) % 3)
    for asked, none in ((spec, True), (PRIMES, False)):
        look = glimpse.glimpse(Seen(asked), split, 5)()
        assert (look.entropies is None) is none
        assert set(look.pictures) == {"couplings"}


def test_digits_are_shown_as_ink_on_paper_and_photographs_as_they_are():
    digit = np.zeros((7, 11, 13, 1), "float32")
    digit[:, 2:9, 2:11] = 1
    assert style.is_ink(digit)
    assert style.is_ink(digit[0])
    assert not style.is_ink(1 - digit)
    assert not style.is_ink(digit.repeat(3, -1))
    assert np.allclose(style.rgb(digit, True), 1 - digit.repeat(3, -1))
    colours, stereo, many = random(5, 7, 3), random(5, 7, 2), random(5, 7, 5)
    assert np.array_equal(style.rgb(colours, False), colours)
    assert np.array_equal(style.rgb(stereo, False), stereo[..., :1].repeat(3, -1))
    assert np.allclose(style.rgb(many, False)[..., 1], many.mean(-1))


def test_a_mosaic_has_each_tile_at_its_place():
    tiles = random(2, 3, 5, 7, 3)
    whole = style.mosaic(tiles, gap=1)
    assert whole.shape == (2 * 6 - 1, 3 * 8 - 1, 3)
    for row, column in np.ndindex(2, 3):
        there = whole[row * 6 : row * 6 + 5, column * 8 : column * 8 + 7]
        assert np.array_equal(there, tiles[row, column])
    assert (whole[5] == 1).all()
    assert (whole[:, 7] == 1).all()


def metrics(steps: int = 90, per_epoch: int = 30, ema: bool = False, seed: int = 1) -> list[dict]:
    """Lines as of a run; every 17th step has no error."""
    draw, lines = np.random.default_rng(seed), []
    for step in range(1, steps + 1):
        accuracy = 1.0 if step % 17 == 0 else 1 - draw.integers(1, 9) / 64
        values = {"loss": draw.random() + 1 / step, "accuracy": accuracy, "learning_rate": 2e-3}
        lines.append({"event": "train", "step": step, **values})
        if step % per_epoch == 0:
            more = {"ema_loss": 0.05, "ema_accuracy": 0.995} if ema else {}
            lines.append({"event": "eval", "step": step, **values, "accuracy": 0.9875, **more})
    return lines


def test_a_smoothed_curve_is_the_mean_of_the_steps_around():
    train, *_ = curves.curves(metrics(9))
    smooth = train.smooth(3)
    assert np.allclose(
        smooth.loss[1:-1], np.lib.stride_tricks.sliding_window_view(train.loss, 3).mean(1)
    )
    assert np.allclose(smooth.error[[0, -1]], [train.error[:2].mean(), train.error[-2:].mean()])
    assert np.array_equal(train.smooth(1).loss, train.loss)
    assert len(curves.curves(metrics(2))[0].smooth(5).loss) == 2


@pytest.mark.parametrize("ema", [False, True])
def test_curves_show_each_value_within_their_axes_and_only_no_error_as_all_right(ema):
    lines = metrics(ema=ema)
    figure = curves.draw(lines, "the note")
    loss, accuracy, rate = figure.axes
    for axes in (loss, accuracy, rate):
        low, high = sorted(axes.get_ylim())
        for line in axes.lines:
            values = np.asarray(line.get_ydata())
            assert len(values)
            assert ((low <= values) & (values <= high)).all()
    raw = np.asarray(accuracy.lines[0].get_ydata())
    ticks = zip(accuracy.get_yticks(), accuracy.get_yticklabels(), strict=True)
    (top,) = [place for place, label in ticks if label.get_text() == "100 %"]
    assert np.array_equal(raw == top, [x["accuracy"] == 1 for x in lines if x["event"] == "train"])
    said = texts(figure)
    assert {"the note", "test, 98.75 %", "learning rate (thousandths)"} <= set(said)
    assert ("averaged, 99.50 %" in said) == ema


def test_two_runs_are_drawn_over_one_another_with_their_difference():
    one, other = metrics(seed=1), metrics(60, seed=1)
    other[3]["loss"] = one[3]["loss"] * (1 + 1e-6)
    figure = curves.draw_both({"a": one, "b": other}, "note")
    assert len(figure.axes) == 4
    assert {"a", "b"} <= set(texts(figure))
    (line,) = figure.axes[3].lines
    assert np.asarray(line.get_xdata()).tolist() == [4]
    assert np.asarray(line.get_ydata()) == pytest.approx([1e-6], rel=1e-3)
    same = curves.draw_both({"a": one, "b": metrics(60)}, "note")
    assert "equal at all 60 steps" in texts(same)
    apart = [{**each, "step": each["step"] + 1000} for each in one]
    assert "no step in common" in texts(curves.draw_both({"a": one, "b": apart}, "note"))


@pytest.mark.parametrize("lines", [[], [{"event": "eval", "step": 1}]])
def test_a_run_without_steps_has_no_curves(lines):
    lines = [{**each, "loss": 1.0, "accuracy": 0.5, "learning_rate": 1.0} for each in lines]
    with pytest.raises(style.FiguresError, match="no training step yet"):
        curves.draw(lines, "note")


def shown(count: int, channels: int) -> reconstructions.Shown:
    labels = np.arange(count) % 3
    images = (random(count, 11, 7, channels, seed=seed) for seed in range(3))
    original, label, answer = images
    return reconstructions.Shown(original, labels, (labels + 1) % 3, label, answer)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(("right", "wrong"), [(10, 10), (3, 0), (0, 2)])
def test_reconstructions_of_right_and_wrong_ones(right, wrong, channels):
    figure = reconstructions.draw(shown(right, channels), shown(wrong, channels), NAMES, "note")
    assert len(figure.axes) == 2 * right + 3 * wrong
    said = texts(figure)
    assert ("right" in said, "wrong" in said) == (right > 0, wrong > 0)
    if wrong:
        assert "nought\n\N{RIGHTWARDS ARROW} one" in said


@pytest.mark.parametrize(("classes", "size"), [(1, 5), (3, 16), (10, 16), (10, 6)])
def test_a_perturbation_sheet_fits_a_page(classes, size):
    sheets = random(classes, size, 11, 5, 7, 1)
    originals = random(classes, 5, 7, 1)
    names = [str(n) for n in range(classes)]
    figure = perturbations.draw(sheets, originals, names, "note")
    width, height = figure.get_size_inches()
    assert width == style.WIDTH
    assert height <= 11
    assert len(figure.axes) == 2 * classes
    for axes in figure.axes:
        box = axes.get_position()
        assert 0 < box.x0 < box.x1 < 1
        assert 0 < box.y0 < box.y1 < 1


@pytest.mark.parametrize("mistakes", [0, 1, 16])
def test_confusion_names_the_count_and_shows_the_mistakes(mistakes):
    counts = np.diag([5, 7, 11])
    counts[0, 2] = mistakes
    images = random(mistakes, 5, 7, 3)
    captions = [f"caption {n}\nlengths" for n in range(mistakes)]
    total = 23 + mistakes
    figure = confusion.draw(counts, total, images, captions, NAMES, "note")
    assert len(figure.axes) == 1 + mistakes
    said = texts(figure)
    assert any(each.startswith(f"{mistakes} of {total} test images are wrong") for each in said)
    assert [each for each in said if each.startswith("caption")] == [
        each.split("\n")[0] for each in captions
    ]
    first = texts(confusion.draw(counts, 1000, images, captions, NAMES, "note"))
    assert any(f"of the first {total} of 1,000 test images" in each for each in first)


@pytest.mark.parametrize("leaky", [False, True])
def test_couplings_are_drawn_by_iteration_for_the_classes_of_the_longest_capsules(leaky):
    routing = dataclasses.replace(PRIMES.routing, leaky=leaky)
    spec = dataclasses.replace(PRIMES, classes=13, routing=routing)
    maps, lengths = random(2, 13, *spec.grid), random(13)
    names = [f"c{n}" for n in range(13)]
    image = random(*spec.image)
    figure = _couplings.draw(image, maps, lengths, [4, 5], spec, names, "note")
    assert len(figure.axes) == 1 + 2 * 10 + 1
    longest = {f"c{n}" for n in np.argsort(-lengths)[:10]}
    assert longest == {each for each in texts(figure) if each[:1] == "c" and each[1:].isdigit()}
    drawn = [axes.images[0] for axes in figure.axes[1:-1]]
    assert {each.norm.vmin for each in drawn} == {1 / (14 if leaky else 13)}
    assert any(f"even split, {1 / (14 if leaky else 13):.2g}" in each for each in texts(figure))


@wings.jax_slow
@pytest.mark.parametrize("precision", wings.wide(["float32", "bfloat16"], "float32".__eq__))
@pytest.mark.parametrize("case", wings.wide(NETWORKS, "primes".__eq__))
def test_one_call_draws_the_couplings_that_the_oracle_has(wing, case, precision):
    spec = NETWORKS[case]
    net, image = wing.build(spec, 7, precision), random(*spec.image)
    names = [f"c{j}" for j in range(spec.classes)]
    figure = couplings(net, image, names)
    arrays = {name: np.float64(each) for name, each in weights.draw(spec, 7).items()}
    values = reference.forward(spec, arrays, np.float64(image[None]), np.array([0]))
    taken = [x[0] for name, x in values.items() if name.endswith(".coupling")]
    longest = reference.longest(
        np.linalg.norm(values[f"routing.{len(taken) - 1}.poses"][0], axis=-1), 10
    )
    expected = _couplings.strongest(np.stack(taken), spec)[:, np.sort(longest)].swapaxes(0, 1)
    drawn = [axes.images[0].get_array() for axes in figure.axes[1:-1]]
    apart = wings.difference(np.stack(drawn), expected.reshape(np.shape(drawn)))
    assert apart < {"float32": 1e-5, "bfloat16": 0.05}[precision]
    assert {names[j] for j in longest} <= set(texts(figure))


def test_couplings_ask_for_a_name_of_each_class(wing):
    with pytest.raises(TwincapsError, match="names: 1; expected 3, one a class"):
        couplings(wing.build(PRIMES), random(*PRIMES.image), ["nought"])


@pytest.mark.parametrize("count", [1, 10, 13])
def test_separations_show_the_answers_where_they_are_wrong(count):
    digits = np.array([[1, 7]] * count)
    answers = digits.copy()
    answers[0] = [1, 3]
    figure = separations.draw(
        random(count, 5, 7, 1), random(count, 2, 5, 7, 1), random(count, 2, 5, 7, 1), digits,
        answers, "note",
    )  # fmt: skip
    assert len(figure.axes) == 5 * count
    assert texts(figure).count("3") == texts(figure).count("\N{RIGHTWARDS ARROW}") == 1
    pictures = [axes.images[0].get_array() for axes in figure.axes]
    assert all(each.shape == (5, 7, 3) for each in pictures if each is not None)


def test_a_figure_is_written_twice_with_the_same_bytes_and_leaves_the_users_style(tmp_path):
    before = dict(matplotlib.rcParams)
    written = [style.save(curves.draw(metrics(), "note"), tmp_path / n, "curves") for n in "ab"]
    assert [path.name for path in written[0]] == ["curves.png", "curves.svg"]
    assert [a.read_bytes() == b.read_bytes() for a, b in zip(*written, strict=True)] == [True] * 2
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"curves.png", "curves.svg"}
    assert dict(matplotlib.rcParams) == before


def test_figures_are_imported_without_matplotlib_and_say_what_is_missing():
    code = (
        "import sys\nsys.modules['matplotlib'] = None\n"
        "import parity.figures.command, parity.loop\nfrom parity.figures import curves\n"
        "from parity.figures.style import FiguresError\n"
        "try:\n    curves.draw([], '')\nexcept FiguresError as error:\n    print(error)"
    )
    said = wings.python("-c", code)
    assert said.stdout == (
        "figures need matplotlib, which is not installed; install it with: "
        "pip install 'twincaps[figures]'\n"
    ), said.stderr
