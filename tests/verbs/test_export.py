"""Exported networks: ONNX graphs against the oracle, each framework's own file without twincaps.

The graphs are run by `onnx.reference`, and by ONNX Runtime where it is installed.
"""

import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import specs
import wings
from test_deepcaps import PLAIN, RELEASED
from test_deepcaps import TINY as DEEPCAPS
from test_em import TINY as MATRIX
from test_imports import frameworks_but, run
from test_inverted import SPECS as INVERTED
from test_inverted import TINY, inverted
from test_self_routing import TINY as SELF_ROUTING
from test_variational_bayes import TINY as BAYES

from parity import __main__ as door
from parity import reference, weights
from parity.compare import subject as subjects
from parity.compare.comparison import Comparison
from parity.compare.rungs import modes
from parity.convert import installed
from parity.export import ENDINGS, build, model, networks, routing
from parity.export.model import ungraphed
from parity.spec import (
    PRESETS,
    Block,
    Conv,
    Depthwise,
    Dynamic,
    Efficient,
    NetworkSpec,
    Norm,
    Pixels,
    Routing,
    SelfAttention,
    TrainedOn,
    Upsampling,
    from_dict,
    preset,
)

onnx = pytest.importorskip("onnx", reason="pip install 'twincaps[onnx]'")
Evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator
BATCH = 5
MANY = re.compile("(deepcaps|matrix|variational Bayes), ")  # options whose graphs are long
APART = {"float64": 1e-13, "float32": 1e-5}

# 13x11x3 -> 11x9 -> 5x4 -> 3x2 places of 2 types of 7 = 12 inputs -> 3 poses of 5
EFFICIENT = Efficient(
    image=(13, 11, 3),
    pixels=Pixels(mean=(0.1, 0.2, 0.3), deviation=(0.5, 0.7, 0.9)),
    stem=(Conv(5, 3), Conv(14, 2, 2)),
    primary=Depthwise(types=2, size=7, kernel=3),
    classes=3,
    pose=5,
    decoder=(17, 19),
)
NETWORKS = {
    **specs.NETWORKS,
    "efficient": EFFICIENT,
    "efficient, layer norm first": replace(
        EFFICIENT,
        pixels=Pixels((0.1, 0.2, 0.3), own=True, joint=True),
        norm=Norm("layer", first=True),
        slope=0.3,
    ),
    "efficient, instance norm": replace(
        EFFICIENT, norm=Norm("instance"), pixels=Pixels(own=True), routing=SelfAttention(scale=1.7)
    ),
    "efficient, no stem": replace(
        EFFICIENT, stem=(), pixels=Pixels(), primary=Depthwise(1, 3, 11, 2), decoder=None
    ),
    "efficient, routing by agreement": replace(
        EFFICIENT, norm=Norm(first=True), routing=Dynamic(bias=True, leaky=True)
    ),
    "efficient, upsampling": replace(
        EFFICIENT, image=(12, 12, 3), decoder=(11, 16), upsampling=Upsampling((3, 5), 2, 0.2)
    ),
    "deepcaps": replace(DEEPCAPS, norm=Norm(first=True)),
    "deepcaps, released": RELEASED,
    "deepcaps, no decoder": replace(PLAIN, stem=(Conv(5, 3), Conv(3, 2, 2))),
}
NETWORKS |= {f"inverted, {name}": spec for name, spec in INVERTED.items()} | {
    "inverted, a shortcut without parameters": replace(
        TINY, blocks=(Block(3), Block(5, 2)), routing=inverted(2, "sequential")
    ),
    "inverted, released": replace(TINY, released=True),
    "self-routing": SELF_ROUTING,
    "self-routing, one layer": replace(SELF_ROUTING, blocks=(Block(3),), capsules=()),
    "self-routing, projected shortcut": replace(
        SELF_ROUTING, blocks=(Block(5, 2, projected=True),), norm=Norm("layer", 1e-5, first=True)
    ),
}
NETWORKS |= {
    "matrix": MATRIX,
    "matrix, one iteration, no windows": replace(
        MATRIX, capsules=(), coordinates=0.0, routing=Routing("em", num_iters=1)
    ),
    "matrix, children in no window": replace(MATRIX, image=(19, 13, 2)),
    "matrix, released": replace(MATRIX, routing=Routing("em", num_iters=2, released=True)),
}
NETWORKS |= {
    "variational Bayes": BAYES,
    "variational Bayes, one iteration": replace(
        BAYES, capsules=(), released=True, routing=Routing("variational_bayes", num_iters=1)
    ),
    "variational Bayes, full covariance": replace(
        BAYES, shared=False, routing=Routing("variational_bayes", covariance="full")
    ),
}
# A routing or a network may have no graph.
NETWORKS = {
    name: spec
    for name, spec in NETWORKS.items()
    if spec.network in networks.GRAPHS and spec.routing.name in routing.GRAPHS
}


def random_case(spec, seed=0):
    """Weights and images with a random value in every place; the last image is blank."""
    draw = np.random.default_rng(seed)
    arrays = {
        name: (draw.standard_normal(row.shape) * (row.std or 0.3)).astype("float32")
        for name, row in weights.table(spec).items()
    }
    arrays |= {name: np.abs(array) for name, array in arrays.items() if name.endswith("variance")}
    images = draw.random((BATCH, *spec.image), dtype="float32")
    images[-1] = 0
    return arrays, images


def expected(spec, arrays, images, things=1):
    """What the oracle says: poses, scores and reconstructions of the longest capsules."""
    arrays = {name: array.astype(float) for name, array in arrays.items()}
    capsules = reference.networks.network.capsules(spec, arrays, images)
    poses, lengths = capsules.poses, capsules.activations
    if lengths is None:
        lengths = reference.lengths(poses, spec.length_epsilon, spec.length_offset)
    found = {"scores": lengths} if poses is None else {"poses": poses, "scores": lengths}
    if spec.decoder is not None:
        answers = reference.longest(lengths, things).T
        each = [reference.decode(spec, arrays, reference.mask(poses, a)) for a in answers]
        found["reconstruction"] = each[0] if things == 1 else np.stack(each, 1)
    return found


def by_reference(made, images):
    """The outputs of a model by ONNX's own operators in NumPy, by name."""
    names = [each.name for each in made.graph.output]
    run = Evaluator(made).run
    return dict(zip(names, run(names, {"images": images}), strict=True))


def by_runtime(made, images):
    """The outputs of a model by ONNX Runtime, by name."""
    runtime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime")
    session = runtime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


def same(found, right, precision):
    assert list(found) == list(right)
    for name, array in right.items():
        assert (found[name].dtype, found[name].shape) == (precision, array.shape)
        assert wings.difference(found[name], array) < APART[precision], name


@pytest.mark.parametrize("precision", APART)
@pytest.mark.parametrize("name", wings.wide(NETWORKS, lambda name: "deepcaps," not in name))
def test_a_graph_is_the_oracles_network(name, precision):
    spec = NETWORKS[name]
    arrays, images = random_case(spec)
    made = build(spec, arrays, dtype=precision)
    onnx.checker.check_model(made, full_check=True)
    same(by_reference(made, images.astype(precision)), expected(spec, arrays, images), precision)


@pytest.mark.parametrize("name", wings.wide(NETWORKS, lambda name: not MANY.match(name)))
def test_onnx_runtime_says_the_same_for_any_batch(name):
    spec = NETWORKS[name]
    arrays, images = random_case(spec)
    made = build(spec, arrays)
    for count in (BATCH, 1):
        same(by_runtime(made, images[:count]), expected(spec, arrays, images[:count]), "float32")


@pytest.mark.parametrize("run_by", [by_reference, by_runtime])
@pytest.mark.parametrize("name", ["primes", "efficient, upsampling", "deepcaps"])
def test_several_answers_have_a_reconstruction_each_the_longest_first(name, run_by):
    arrays, images = random_case(NETWORKS[name])
    made = build(NETWORKS[name], arrays, TrainedOn(things=2))
    right = expected(NETWORKS[name], arrays, images, 2)
    assert right["reconstruction"].shape == (BATCH, 2, *NETWORKS[name].image)
    same(run_by(made, images), right, "float32")


@pytest.mark.parametrize("run_by", [by_reference, by_runtime])
def test_capsules_of_nothing_are_nothing(run_by):
    zeros = {name: 0 * array for name, array in random_case(specs.PRIMES)[0].items()}
    found = run_by(build(specs.PRIMES, zeros), random_case(specs.PRIMES)[1])
    assert not found["poses"].any()
    assert not found["scores"].any()
    assert np.array_equal(found["reconstruction"], np.full((BATCH, 13, 11, 3), 0.5, "float32"))


LOWER = np.arange(3)[:, None, None, None] > 0  # rows of a window
# What is at an edge: a network, one of its arrays, and what becomes of it.
EDGES = {
    "no capsule is active": (SELF_ROUTING, "activation.norm.shift", lambda x: x - 1e4),
    "the first parent is chosen in the zeros above a map alone": (
        SELF_ROUTING,
        "capsule.0.route.bias",
        lambda x: np.where(LOWER & (np.arange(3) == 0), -1e4, x),
    ),
    "activations near 0": (MATRIX, "capsule.0.beta_a", lambda x: x - 1e4),
    "densities below the least one": (BAYES, "capsule.0.kernel", lambda x: 3e3 * x),
}


@pytest.mark.parametrize("run_by", [by_reference, by_runtime])
@pytest.mark.parametrize("edge", EDGES)
def test_a_routing_at_its_edges(edge, run_by):
    spec, name, change = EDGES[edge]
    arrays, images = random_case(spec)
    arrays[name] = change(arrays[name]).astype("float32")
    right = expected(spec, arrays, images)
    same(run_by(build(spec, arrays), images), right, "float32")


GRAPHED = [name for name in PRESETS if ungraphed(preset(name)) is None]


@pytest.mark.parametrize("name", wings.wide(GRAPHED, "small".__eq__))
def test_every_preset_of_a_network_with_a_graph_has_one(name):
    spec = preset(name)
    made = build(spec, weights.draw(spec, 0))
    onnx.checker.check_model(made, full_check=True)
    sizes = {each.name: each.type.tensor_type.shape.dim for each in made.graph.output}
    expected = {"scores": ["batch", spec.classes]}
    expected |= {"poses": ["batch", spec.classes, spec.pose]} if spec.pose else {}
    for name, each in expected.items():
        assert [d.dim_param or d.dim_value for d in sizes[name]] == each


def test_the_door_writes_a_graph_without_any_framework(tmp_path):
    out, code = tmp_path / "small.onnx", "from parity.__main__ import main\nsys.exit(main({}))"
    argv = ["export", "small-mnist", str(out)]
    told = run(code.format(argv), frameworks_but(None))
    assert told.returncode == 0, told.stderr
    assert told.stdout == (
        f"wrote {out}: small-mnist, 539,120 parameters, {out.stat().st_size:,} bytes\n"
        "images [batch, 28, 28, 1] in 0 to 1 -> poses [batch, 10, 6], scores [batch, 10], "
        "reconstruction [batch, 28, 28, 1]\n"
    )
    made = onnx.load(out)
    about = {each.key: each.value for each in made.metadata_props}
    spec, arrays = weights.load_pretrained("small-mnist")
    assert from_dict(NetworkSpec, json.loads(about["spec"])) == spec
    assert json.loads(about["classes"]) == [str(n) for n in range(10)]
    assert about["source"] == "small-mnist"
    assert from_dict(TrainedOn, json.loads(about["trained_on"])).dataset == "mnist"
    images = np.random.default_rng(0).random((2, 28, 28, 1), dtype="float32")
    same(by_reference(made, images), expected(spec, arrays, images), "float32")
    assert door.main([*argv, "--force", "--json"]) == 0
    assert out.read_bytes() == made.SerializeToString(deterministic=True)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def saved(folder: Path, spec=specs.TINY) -> str:
    path = folder / "net.safetensors"
    weights.save(path, spec, weights.draw(spec, 3))
    return str(path)


REFUSED = {
    "an ending that is none": ("{net}", "out.tflite", (), r"ends in none of \.onnx, \.pt2, \.jax"),
    "a file that is there": ("{net}", "there.onnx", (), "exists; choose another name, or --force"),
    "a folder": ("{net}", "folder.onnx", ("--force",), "exists"),
    "no such network": ("small-mnits", "out.onnx", (), "expected one of .*small-mnist"),
    "a folder that is not there": ("{net}", "no/out.onnx", (), "could not write it"),
    "averages of a file": ("{net}", "out.onnx", ("--ema",), "averages"),
}


def refused(capsys, folder, network, out, *flags) -> str:
    """The one line that is said; nothing is written."""
    before = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    assert door.main(["export", network, str(folder / out), *flags]) == 2
    after = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    assert after == before
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_exported_is_said_and_nothing_is_written(capsys, tmp_path, case):
    network, out, flags, says = REFUSED[case]
    (tmp_path / "there.onnx").write_text("mine")
    (tmp_path / "folder.onnx").mkdir()
    line = refused(capsys, tmp_path, network.format(net=saved(tmp_path)), out, *flags)
    assert re.search(says, line), line


def test_a_routing_without_a_graph_is_refused_by_name(capsys, tmp_path, monkeypatch):
    monkeypatch.delitem(routing.GRAPHS, "dynamic")
    line = refused(capsys, tmp_path, saved(tmp_path), "out.onnx")
    assert "routing dynamic has no ONNX graph; expected one of self_attention, self_rou" in line


def test_weights_beyond_a_file_of_onnx_are_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(model, "LARGEST", 100)
    assert "2 GiB" in refused(capsys, tmp_path, saved(tmp_path), "out.onnx")


MISSING = {".onnx": ("onnx", "twincaps[onnx]"), ".pt2": ("torch_caps.export", "twincaps[torch]")}
MISSING[".jax"] = ("flatbuffers", "flatbuffers")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_missing_package_is_named(capsys, tmp_path, monkeypatch, ending):
    module, extra = MISSING[ending]
    right = installed.importlib.import_module

    def importing(name):
        if name == module:
            raise ImportError(f"No module named {name!r}")
        return right(name)

    monkeypatch.setattr(installed.importlib, "import_module", importing)
    line = refused(capsys, tmp_path, saved(tmp_path), f"out{ending}")
    assert f"pip install '{extra}'" in line


# A row of the ladder.


def third_witness(monkeypatch, graph=routing.dynamic):
    """The rows of rung 7 for this graph's routing, with the oracle as both wings."""
    monkeypatch.setitem(routing.GRAPHS, "dynamic", graph)
    subject = subjects.of(specs.PRIMES, source="the test's network", batch=3)
    poses = reference.encode(specs.PRIMES, subject.cast("float64"), subject.at(0)[0])
    usual = {"poses": poses, "scores": reference.lengths(poses)}
    pair = SimpleNamespace(handles={"torch": SimpleNamespace(precision="float64")})
    comparison = Comparison(subject, pair, Path(), ("exported",))  # type: ignore[arg-type]
    return modes._exported(comparison, {"torch": usual, "jax": usual})


def test_the_ladder_has_a_row_for_the_graph_and_each_wing(monkeypatch):
    rows = third_witness(monkeypatch)
    assert [row.what for row in rows] == [
        "exported ONNX graph against torch", "exported ONNX graph against jax"
    ]  # fmt: skip
    assert [(row.rung, row.verdict, row.tolerance) for row in rows] == [(7, "holds", 1e-12)] * 2


def test_a_graph_that_routes_once_too_often_breaks_the_ladder(monkeypatch):
    def wrong(g, votes, options, *more):
        return routing.dynamic(g, votes, replace(options, num_iters=4), *more)

    rows = third_witness(monkeypatch, wrong)
    assert [(row.verdict, row.first) for row in rows] == [("differs", "poses")] * 2


def test_without_onnx_the_row_is_skipped_and_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx.reference", None)
    (row,) = third_witness(monkeypatch)
    assert row.verdict == "skipped"
    assert "pip install 'twincaps[onnx]'" in row.why


# The frameworks' own files.

OPENED = {
    "torch": "import torch\n"
    "f = torch.export.load({path!r}).module()\n"
    "call = lambda x: {{n: y.detach().numpy() for n, y in f(torch.from_numpy(x)).items()}}\n",
    "jax": "import jax\n"
    "f = jax.export.deserialize(bytearray(open({path!r}, 'rb').read())).call\n"
    "call = lambda x: f(x)\n",
}


def opened(wing, content: bytes, images):
    """The outputs of a wing's file by its framework alone."""
    if wing.__name__ == "torch_caps":
        torch = wing.weights.torch
        found = torch.export.load(io.BytesIO(content)).module()(torch.from_numpy(images))
    else:
        pytest.importorskip("flatbuffers")
        found = wing.export.jax_export.deserialize(bytearray(content)).call(images)
    return {name: wings.numpy(array) for name, array in found.items()}


@pytest.mark.parametrize(
    ("spec", "things"),
    wings.wide(
        [
            (specs.TINY, 1),
            (EFFICIENT, 1),
            (specs.PRIMES, 2),
            (NETWORKS["efficient, upsampling"], 2),
            (NETWORKS["self-routing"], 1),
            (NETWORKS["matrix"], 1),
            (NETWORKS["variational Bayes"], 1),
            (NETWORKS["inverted, vectors"], 1),
            (NETWORKS["deepcaps"], 1),
        ],
        lambda spec, _: spec is specs.TINY,
    ),
)
def test_a_wings_file_says_the_same_for_any_batch(wing, spec, things):
    if wing.__name__ == "jax_caps":
        pytest.importorskip("flatbuffers")
    arrays, images = random_case(spec)
    net = wing.networks.build(spec)
    wing.weights.from_numpy(net, arrays)
    before = wing.numerics.report()
    content = wing.export.serialize(net, things)
    assert wing.numerics.report() == before
    for count in (BATCH, 1) if spec is not specs.TINY else (BATCH,):
        found = opened(wing, content, images[:count])
        right = expected(spec, arrays, images[:count], things)
        assert sorted(found) == sorted(right)
        for name, array in right.items():
            assert wings.difference(found[name], array) < APART["float32"], name


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ending"), [("torch", ".pt2"), ("jax", ".jax")])
def test_a_wings_file_runs_without_twincaps(tmp_path, name, ending):
    if name not in wings.NAMES:
        pytest.skip(f"TWINCAPS_WINGS is {','.join(wings.NAMES)}")
    if name == "jax":
        pytest.importorskip("flatbuffers")
    path, there = str(tmp_path / f"small{ending}"), str(tmp_path / "there.npz")
    assert door.main(["export", "small-mnist", path]) == 0
    images = np.random.default_rng(0).random((3, 28, 28, 1), dtype="float32")
    np.savez(there, images=images)
    code = OPENED[name].format(path=path) + (
        f"import numpy as np\nfound = call(np.load({there!r})['images'])\n"
        f"np.savez({there!r}, **found)\n"
    )
    told = run(code, frameworks_but(name) | {"parity", wings.PACKAGES[name]})
    assert told.returncode == 0, told.stderr
    right = expected(*weights.load_pretrained("small-mnist"), images)
    with np.load(there) as found:
        assert sorted(found) == sorted(right)
        for each, array in right.items():
            assert wings.difference(found[each], array) < APART["float32"], each
