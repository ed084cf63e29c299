"""The measure, trace files, the first difference, and what the oracle says of it; no framework."""

import dataclasses
import json

import numpy as np
import pytest
from specs import KINDS, PRIMES, TINY

from parity import compare, reference, weights
from parity.compare import subject
from parity.spec import TwincapsError, to_dict
from parity.traces import oracle, recording
from parity.traces.measure import differences, worst
from parity.traces.recording import TraceError, execution_order

NAN, INF = float("nan"), float("inf")
TINY32 = float(np.finfo(np.float32).tiny)


def f32(*numbers):
    return np.array(numbers, np.float32)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (f32(0, 0), f32(0, 0), 0),
        (f32(1, 2), f32(1, 2), 0),
        (f32(1, 4), f32(2, 4), 0.25),
        (f32(1, -4), f32(1, 4), 2),
        (f32(0, 0), f32(0, 1), 1),
        (f32(0, 8), f32(0, 10), 0.2),
        (f32(TINY32 / 2), f32(0), 0),
        (f32(2 * TINY32), f32(0), 1),
        (np.array([TINY32 / 2]), np.zeros(1), 1),
        (np.array([TINY32 / 2]), f32(0), 0),
        (f32(NAN, 1), f32(0, 1), INF),
        (f32(1, 1), f32(1, NAN), INF),
        (f32(NAN, 1), f32(NAN, 1), 0),
        (f32(NAN, 1), f32(NAN, 2), 0.5),
        (f32(INF), f32(1), INF),
        (f32(INF), f32(-INF), INF),
        (f32(INF, 1), f32(INF, 2), 0.5),
        (f32(NAN), f32(INF), INF),
        (f32(1, 1), f32(1), INF),
        (f32(), f32(), 0),
        (np.float32(3), np.float32(4), 0.25),
        (np.array([1, 2]), np.array([1, 4]), 0.5),
        (np.array(True), np.array(False), 1),
        (np.array([1.0], "bfloat16"), f32(1), 0),
    ],
)
def test_the_measure(a, b, expected):
    assert compare.difference(a, b) == compare.difference(b, a) == pytest.approx(expected)


def test_a_name_that_one_side_lacks_is_infinitely_far():
    found = differences({"x": f32(1), "y": f32(1)}, {"y": f32(2), "z": f32(1)})
    assert found == {"x": INF, "y": 0.5, "z": INF}
    assert worst(found) == ("x", INF)
    assert worst({}) == ("", 0.0)


def oracle_trace(spec=PRIMES, backend="torch", batch=2, tap=None, wrong=None):
    """A trace of the oracle itself, gradients random: as a wing's, with a mistake where asked.

    tap    changes the tensors on their way; wrong  {name: factor} of gradients
    """
    whole = subject.of(spec, seed=1, batch=batch)
    images, labels = whole.at(0)
    arrays = {name: array.astype("float64") for name, array in whole.weights.items()}
    values = reference.forward(spec, arrays, images, labels, tap or reference.no_tap)
    values = {name: np.asarray(x) for name, x in values.items()}
    values |= {f"parameter/{name}": array for name, array in arrays.items()}
    draw = np.random.default_rng(0)
    gradients = {name: draw.standard_normal(x.shape) for name, x in values.items()}
    for name, factor in (wrong or {}).items():
        gradients[name] = gradients[name] * factor
    request = {
        **dict.fromkeys(recording.REQUEST, "?"),
        **{"spec": to_dict(spec), "seed": 1, "batch": batch, "precision": "float64"},
        **{"backend": backend, "mode": "usual", "device": "cpu"},
    }
    return recording.make(request, {"framework": backend}, (values, gradients), labels)


def test_parameters_stand_before_what_they_feed():
    names = [*reference_names(), *(f"parameter/{name}" for name in weights.table(PRIMES))]
    assert execution_order(names, PRIMES) == [
        "image", "parameter/stem.0.kernel", "parameter/stem.0.bias", "stem.0",
        "parameter/primary.kernel", "parameter/primary.bias", "primary.conv", "primary.poses",
        "parameter/digit.kernel", "votes",
        "routing.0.logits", "routing.0.coupling", "parameter/digit.bias", "routing.0.sum",
        "routing.0.poses",
        *(f"routing.{t}.{what}" for t in (1, 2) for what in ("logits", "coupling", "sum", "poses")),
        "lengths", *(f"parameter/decoder.{n}.{w}" for n in range(3) for w in ("kernel", "bias")),
        "reconstruction", "loss.margin", "loss.reconstruction", "loss",
    ]  # fmt: skip


def reference_names():
    return [name for name in oracle_trace().values if not name.startswith("parameter/")]


def test_a_trace_comes_back_from_its_file(tmp_path):
    trace = oracle_trace()
    trace.save(tmp_path / "a.safetensors")
    back = recording.load(tmp_path / "a.safetensors")
    assert (back.request, back.report, back.spec) == (trace.request, trace.report, PRIMES)
    assert list(back.values) == list(back.gradients) == list(trace.values)
    for kind in ("values", "gradients"):
        for name, array in getattr(trace, kind).items():
            np.testing.assert_array_equal(getattr(back, kind)[name], array)
    np.testing.assert_array_equal(back.labels, trace.labels)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda content: content.replace(b"twincaps-trace", b"twincaps-trice"), "twincaps-trice"),
        (lambda content: content.replace(b'"schema\\": 1', b'"schema\\": 2'), "schema version 2"),
    ],
    ids=["another kind", "a newer schema"],
)
def test_a_file_of_another_kind_is_refused(tmp_path, spoil, says):
    path = tmp_path / "a.safetensors"
    oracle_trace().save(path)
    content = spoil(path.read_bytes())
    assert content != path.read_bytes(), "the file was not spoilt"
    path.write_bytes(content)
    with pytest.raises(TwincapsError, match=says):
        recording.load(path)


@pytest.mark.parametrize("header", [{}, {"order": ["image"]}, {"order": ["loss"], "request": {}}])
def test_a_header_that_does_not_name_the_tensors_is_refused(tmp_path, header):
    path = tmp_path / "a.safetensors"
    arrays = {"labels": f32(1), "value/image": f32(1), "gradient/image": f32(1)}
    weights.save_arrays(path, arrays, {"format": recording.FORMAT, "schema": 1, **header})
    with pytest.raises(TraceError, match="does not name its tensors"):
        recording.load(path)


def test_weights_are_not_a_trace(tmp_path):
    weights.save(tmp_path / "w.safetensors", TINY, weights.draw(TINY, 0))
    with pytest.raises(TwincapsError, match="twincaps-weights, expected twincaps-trace"):
        recording.load(tmp_path / "w.safetensors")


def test_traces_of_different_requests_are_refused_point_by_point():
    one = oracle_trace()
    recording.refuse_unlike(one, oracle_trace(backend="jax"))
    changed = {"seed": 5, "batch": 3, "precision": "float32", "weights": "w", "images": "i"}
    spec = {**one.request["spec"], "pose": 7}
    other = dataclasses.replace(one, request={**one.request, **changed, "spec": spec})
    with pytest.raises(TraceError) as caught:
        recording.refuse_unlike(one, other)
    message = str(caught.value)
    assert "spec: pose 5 and 7" in message
    assert "seed: 1 and 5" in message
    assert all(f"  {name}: " in message for name in recording.SHARED)


def changed(trace, kind, name, factor=1.001):
    held = {**getattr(trace, kind), name: getattr(trace, kind)[name] * factor}
    return dataclasses.replace(trace, **{kind: held})


def test_the_first_difference_forward_then_backward():
    one = oracle_trace()
    assert compare.first_difference(one, one, 0.0) is None
    names = list(one.values)
    for early, late in (("stem.0", "votes"), ("routing.1.logits", "loss"), ("image", "lengths")):
        other = changed(changed(one, "values", late), "values", early)
        found = compare.first_difference(one, other, 1e-6)
        assert (found.name, found.backward) == (early, False)
        assert found.difference == pytest.approx(1e-3, rel=1e-2)
        assert str(found) == early
        other = changed(changed(one, "gradients", late), "gradients", early)
        found = compare.first_difference(one, other, 1e-6)
        assert (found.name, found.backward) == (late, True)
        assert str(found) == f"gradient at {late}"
        assert compare.first_difference(one, other, 0.0, 1e-2) is None
    # A parameter's gradient comes after that of what it feeds, before that of its input.
    kernel = names.index("parameter/primary.kernel")
    assert names.index("stem.0") < kernel < names.index("primary.conv")


@pytest.mark.parametrize("kind", ["values", "gradients"])
@pytest.mark.parametrize("spoil", ["nan", "lost"])
def test_nan_on_one_side_and_a_lost_tensor_are_differences(kind, spoil):
    one = oracle_trace()
    held = dict(getattr(one, kind))
    if spoil == "nan":
        held["votes"] = held["votes"] * NAN
    else:
        del held["votes"]
    other = dataclasses.replace(one, **{kind: held})
    for pair in ((one, other), (other, one)):
        found = compare.first_difference(*pair, 1e9)
        assert (found.name, found.difference) == ("votes", INF)


@pytest.mark.parametrize("name", ["stem.0", "votes", "routing.1.coupling", "loss.reconstruction"])
@pytest.mark.parametrize("guilty", [0, 1])
def test_the_oracle_says_which_wing_leaves_it_forward(name, guilty):
    def mistake(tapped, x):
        return x * 1.01 if tapped == name else x

    pair = [oracle_trace(), oracle_trace(backend="jax")]
    pair[guilty] = oracle_trace(backend=("torch", "jax")[guilty], tap=mistake)
    found = compare.verdict(*pair, 1e-13, 1e-12)
    assert (found.kind, found.first.name, found.departs) == (
        "semantic", name, (("torch", "jax")[guilty],),
    )  # fmt: skip
    assert f"{('torch', 'jax')[guilty]} leaves the oracle" in str(found)


@pytest.mark.parametrize(
    "name", ["image", "primary.conv", "routing.0.coupling", "loss", "parameter/digit.kernel"]
)
@pytest.mark.parametrize("guilty", [0, 1])
def test_the_oracle_says_which_wing_leaves_it_backward(name, guilty):
    """The right gradient is the oracle's along the gap, so the wrong one can be told from it."""
    pair = [oracle_trace(TINY), oracle_trace(TINY, "jax")]
    if name not in pair[0].values:
        pytest.skip(f"the tiny network has no {name}")
    slope = np.zeros_like(pair[0].gradients[name])
    for index in np.ndindex(*slope.shape):
        direction = np.zeros_like(slope)
        direction[index] = 1
        slope[index] = oracle.slope_along(pair[0], name, direction)
    assert np.abs(slope).max() > 0
    for place, each in enumerate(pair):
        held = slope * 1.01 + 1e-3 if place == guilty else slope
        pair[place] = dataclasses.replace(each, gradients={**each.gradients, name: held})
    found = compare.verdict(*pair, 1e-13, 1e-12)
    assert (found.first.name, found.first.backward) == (name, True)
    assert found.departs == (("torch", "jax")[guilty],)


def test_a_nan_leaves_the_oracle():
    one = oracle_trace()
    other = changed(oracle_trace(backend="jax"), "gradients", "votes", NAN)
    assert compare.verdict(one, other, 1e-13).departs == ("jax",)


def test_what_agrees_in_float64_is_rounding():
    found = compare.verdict(oracle_trace(), oracle_trace(backend="jax"), 1e-13)
    assert found.kind == "rounding"
    assert str(found) == "rounding: in float64 they agree"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"seed": -1}, "seed -1"),
        ({"weights": {"digit.kernel": f32(1)}}, "missing"),
        ({"weights": {n: a * NAN for n, a in weights.draw(TINY, 0).items()}}, "not finite"),
    ],
    ids=["batch", "seed", "weights", "NaN"],
)
def test_a_subject_that_cannot_be_is_refused(changes, says):
    with pytest.raises(TwincapsError, match=says):
        subject.of(TINY, **changes)


def test_a_subject_comes_back_from_its_file(tmp_path):
    one = subject.of(PRIMES, seed=3, batch=5, source="primes")
    one.save(tmp_path / "s.safetensors")
    back = subject.load(tmp_path / "s.safetensors")
    for each in dataclasses.fields(subject.Subject):
        a, b = getattr(one, each.name), getattr(back, each.name)
        if each.name == "weights":
            assert all(np.array_equal(a[name], b[name]) for name in (*a, *b))
        else:
            assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
    assert json.dumps(to_dict(back.spec)) == json.dumps(to_dict(PRIMES))


def test_a_subject_has_a_random_number_in_every_place():
    one = subject.of(PRIMES)
    for name, array in one.weights.items():
        assert len(np.unique(array)) > 0.99 * array.size, name
    state = one.midway("adam", "float64")
    for name in one.weights:
        m, v = (state["optimizer"][f"adam.{x}/{name}"] for x in "mv")
        assert (v >= 0).all()
        assert ((m == 0) == (v == 0)).all()
        assert np.abs(m).max() > 1e-4
    assert (one.at(0)[0] != one.at(1)[0]).any()
    assert set(one.labels) == {0, 1, 2}


@pytest.mark.parametrize("kind", [kind for kind, spec in KINDS.items() if weights.state(spec)])
def test_a_subject_has_running_numbers_of_its_network(kind):
    """Else a deep network dies out in evaluation, and its rounding is compared."""
    one = subject.of(KINDS[kind])
    given = {name: array.astype("float64") for name, array in one.weights.items()}
    seen = reference.forward(one.spec, given, *one.at(0))
    for name in {running.rpartition(".")[0] for running in weights.state(one.spec)}:
        scale, shift = given.get(f"{name}.scale", 1), given.get(f"{name}.shift", 0)
        normal = (seen[name] - shift) / scale
        assert abs(normal.mean()) < 0.2, name
        assert 0.2 < normal.std() < 1.1, name  # less where the batch lies close together
        # Near the batch's own, and not these: who takes the batch's in evaluation is seen.
        assert not np.allclose(normal.mean(tuple(range(normal.ndim - 1))), 0, atol=1e-3), name
