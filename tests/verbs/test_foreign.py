"""Foreign layouts: each row of the table against a small network in that layout."""

import dataclasses
import re

import numpy as np
import pytest
import test_foreign_efficient
import test_foreign_self_routing
import test_foreign_variational_bayes
import wings
from foreign_networks import CAPSULES, CASES, INPUTS, OFFICIAL, SPEC, TYPES, J, draw, keras, write

from parity import reference
from parity.convert import LAYOUTS, Layout, convert, network
from parity.convert.axes import parse, reorder, shape, solve
from parity.convert.conversion import layouts_for
from parity.convert.foreign import adopt
from parity.convert.formats import read
from parity.convert.match import match, matching
from parity.spec import Conv, TwincapsError
from parity.weights import WeightsError, check, table

REFUSED = [name for name, layout in LAYOUTS.items() if layout.refused]
ORDERS = {
    "capsules": ("type h w", "h w type", "type w h"),
    "channels": ("type k", "k type"),
    "pixels": ("C H W", "H W C"),
}


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(7)
    return random.uniform(0, 1, (3, *SPEC.image)), np.array([10, 0, 4])


# Every row.


def test_every_row_is_proven_or_refused():
    others = (
        *test_foreign_efficient.NAMES,
        *test_foreign_self_routing.NAMES,
        *test_foreign_variational_bayes.NAMES,
        "deepcaps",
        "inverted",
    )
    assert sorted([*CASES, *REFUSED, *others]) == sorted(LAYOUTS)


@pytest.mark.parametrize("name", CASES)
def test_converted_weights_compute_what_the_foreign_network_does(name, batch, tmp_path):
    case, tensors = CASES[name], draw(name)
    found = network(write(tmp_path / "them", tensors), layout=name, spec=case.spec)
    check(found.arrays, table(case.spec))
    images, labels = batch
    ours = reference.forward(case.spec, found.arrays, images, labels)
    poses, decoded = case.forward(tensors, images, labels)
    assert wings.difference(ours["routing.2.poses"], poses) < 1e-13
    assert wings.difference(ours["reconstruction"], decoded) < 1e-13
    assert wings.difference(ours["routing.0.poses"], poses) > 1e-2
    assert np.std(decoded) > 1e-2


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (name, field)
        for name in CASES
        for field in ORDERS
        if field != "channels" or "out" in LAYOUTS[name].tensors["primary.kernel"][1]
    ],
)
def test_no_other_order_computes_the_same(name, field, batch, tmp_path):
    case, tensors, layout = CASES[name], draw(name), LAYOUTS[name]
    file, expected = write(tmp_path / "them", tensors), case.forward(tensors, *batch)
    for order in ORDERS[field]:
        other = dataclasses.replace(layout, **{field: order})
        arrays = network(file, layout=other, spec=case.spec).arrays
        ours = reference.forward(case.spec, arrays, *batch)
        apart = wings.difference(ours["reconstruction"], expected[1])
        assert (apart < 1e-13) == (order == getattr(layout, field))


@pytest.mark.parametrize("name", CASES)
@wings.jax_slow
def test_a_wing_computes_what_the_foreign_network_does(wing, name, batch, tmp_path):
    case, tensors = CASES[name], draw(name, 1)
    arrays = network(write(tmp_path / "them", tensors), layout=name, spec=case.spec).arrays
    net = wing.CapsuleNetwork(case.spec)
    wing.weights.from_numpy(net, arrays)
    poses, decoded = case.forward(tensors, *batch)
    ours = net(batch[0].astype(np.float32))
    assert wings.difference(wings.numpy(ours), poses.astype(np.float32)) < 1e-5
    ours = net.reconstruct(ours, batch[1])
    assert wings.difference(wings.numpy(ours), decoded.astype(np.float32)) < 1e-5


@pytest.mark.parametrize("name", CASES)
def test_a_row_is_found_by_its_names_and_sizes_by_its_shapes(name, tmp_path):
    case, tensors = CASES[name], draw(name)
    base = dataclasses.replace(
        case.spec,
        image=(19, 15, 5),
        stem=(Conv(7, 2),),
        primary=dataclasses.replace(
            case.spec.primary, size=7, kernel=3, types=TYPES if name == "official" else 5
        ),
        classes=3,
        decoder=None if name == "labml" else (31,),
    )
    file = write(tmp_path / "them", tensors)
    only = matching(read(file).tensors) == [name]
    found = infer(file, base, None if only else name)
    assert found.spec == case.spec
    assert found.layout == name
    exact = network(file, layout=name, spec=case.spec).arrays
    assert all(np.array_equal(exact[each], found.arrays[each]) for each in exact)
    with pytest.raises(WeightsError, match="not this network in layout"):
        network(file, layout=name, spec=base)


def infer(file, base, layout):
    """`network(file, preset=...)`, with a preset of our own."""
    held = read(file)
    return adopt(str(file), held.tensors, layouts_for(held, layout), base, infer_sizes=True)


@pytest.mark.parametrize("name", [*CASES, *REFUSED])
def test_a_row_names_every_axis_once_and_no_tensor_twice(name):
    layout = LAYOUTS[name]
    axes = {re.sub(r"\d", "{n}", each): row.axes for each, row in table(OFFICIAL).items()}
    assert sorted(layout.capsules.split()) == ["h", "type", "w"]
    assert sorted(layout.channels.split()) == ["k", "type"]
    assert sorted(layout.pixels.split()) == ["C", "H", "W"]
    templates = [template for template, _ in layout.tensors.values()]
    assert len(set(templates)) == len(templates)
    for canonical, (template, order) in layout.tensors.items():
        general = canonical if canonical in axes else canonical.replace("0", "{n}")
        named = sorted(each for group in parse(order) for each in group)
        piece = re.search(r"\{(k|type)\}", template)
        wanted = axes[general].split()
        if {"k", "type"} <= set(named):
            wanted = ["k", "type", *(each for each in wanted if each != "out")]
        assert named == sorted(wanted)
        assert not piece or order.split()[0] == piece[1]


# What a row refuses.


@pytest.mark.parametrize("name", REFUSED)
def test_capsules_of_neighbouring_pixels_are_refused_with_the_reason(name, tmp_path):
    (regrouped,) = [
        each for each in CASES if LAYOUTS[each].tensors == LAYOUTS[name].tensors and each != name
    ]
    file = write(tmp_path / "them", draw(regrouped))
    for spec in (SPEC, OFFICIAL):  # whether the shapes fit or not
        with pytest.raises(TwincapsError, match="neighbouring pixels of one channel"):
            network(file, layout=name, spec=spec)
    two = {each: LAYOUTS[each] for each in (name, "labml")}
    with pytest.raises(TwincapsError, match="neighbouring pixels of one channel"):
        adopt("them", draw(regrouped), two, SPEC)
    with pytest.raises(TwincapsError, match=f"fit 2 layouts(.|\n)*{name}: (.|\n)*neighbouring"):
        network(file, spec=SPEC)
    assert network(file, layout=regrouped, spec=SPEC).layout == regrouped


@pytest.mark.parametrize(
    ("name", "logits", "size"),
    [
        ("adambielski", "digitCaps.routing_module.b", (INPUTS, J)),
        ("gram-ai", "digit_capsules.route_logits", (J, 1, INPUTS, 1, 1)),
    ],
)
def test_learned_starting_logits_are_refused_and_zeros_are_not(name, logits, size, tmp_path):
    tensors = draw(name) | {logits: np.zeros(size)}
    assert network(write(tmp_path / "zero", tensors), spec=SPEC).layout == name
    tensors[logits][..., -1] = 1e-30
    with pytest.raises(WeightsError, match=rf"{re.escape(logits)} is not 0"):
        network(write(tmp_path / "them", tensors), spec=SPEC)


def test_tensors_that_are_no_weights_are_left_out_where_the_row_says_so(tmp_path):
    more = {"global_step": np.array(7), "conv1/weights/Adam_1": np.ones(3), "beta1_power": 0.9}
    file = write(tmp_path / "them", draw("official") | {k: np.asarray(v) for k, v in more.items()})
    assert network(file, spec=OFFICIAL).layout == "official"
    file = write(tmp_path / "them", draw("labml") | {"global_step": np.array(7)})
    with pytest.raises(WeightsError, match="unexpected global_step"):
        network(file, spec=SPEC)


def test_everything_that_does_not_fit_is_listed_at_once(tmp_path):
    tensors = draw("gram-ai")
    del tensors["decoder.4.bias"], tensors[f"{CAPSULES}1.weight"]
    tensors["conv1.bias"] = tensors["conv1.bias"][:-1]
    tensors["decoder.0.bias"] = tensors["decoder.0.bias"].astype(np.int64)
    tensors[f"{CAPSULES}0.bias"] = tensors[f"{CAPSULES}0.bias"].astype(np.float32)
    tensors["extra.weight"] = np.zeros((2, 3))
    with pytest.raises(WeightsError) as caught:
        network(write(tmp_path / "them", tensors), layout="gram-ai", spec=SPEC)
    for each in (
        "faults: 6\n",
        "missing decoder.2.bias (decoder.{n}.bias)",
        "primary.kernel is made of 1 tensors primary_capsules.capsules.{k}.weight, expected 2",
        "conv1.bias has shape (16,), expected (17,) (out)",
        "decoder.0.bias has dtype int64",
        "primary_capsules.capsules.1.bias has dtype float64, expected that of",
        "unexpected extra.weight (2, 3)",
    ):
        assert each in str(caught.value)


def test_without_a_decoders_kernels_nothing_else_is_called_wrong(tmp_path):
    tensors = {name: each for name, each in draw("labml").items() if "4.w" not in name}
    with pytest.raises(WeightsError, match=r"faults: 1\n  missing decoder.2.kernel"):
        network(write(tmp_path / "them", tensors), layout="labml", spec=SPEC)


def test_a_missing_piece_in_the_middle_is_not_closed_up(tmp_path):
    tensors = draw("higgsfield-by-type")
    tensors[f"{CAPSULES}3.weight"] = tensors.pop(f"{CAPSULES}1.weight")
    with pytest.raises(WeightsError, match=r"made of 1 tensors.*expected 3"):
        network(write(tmp_path / "them", tensors), layout="higgsfield-by-type", spec=SPEC)


def test_the_authors_divisor_is_never_guessed(tmp_path):
    base = dataclasses.replace(
        OFFICIAL, primary=dataclasses.replace(OFFICIAL.primary, types=5, scale=1 / 5)
    )
    with pytest.raises(WeightsError, match="not this network in layout"):
        infer(write(tmp_path / "them", draw("official")), base, "official")


def test_an_unknown_layout_names_the_known_ones(tmp_path):
    file = write(tmp_path / "them", draw("labml"))
    with pytest.raises(TwincapsError, match="'lbml' is unknown; expected one of torch, canonical"):
        network(file, layout="lbml", spec=SPEC)


def test_a_layout_of_ones_own_is_taken(tmp_path):
    tensors = draw("labml")
    tensors["digit_capsules.weight"] = tensors["digit_capsules.weight"].transpose(3, 0, 2, 1).copy()
    theirs = dataclasses.replace(
        LAYOUTS["labml"],
        tensors={
            **LAYOUTS["labml"].tensors,
            "digit.kernel": ("digit_capsules.weight", "d i k j"),
        },
    )
    exact = network(write(tmp_path / "a", draw("labml")), spec=SPEC).arrays["digit.kernel"]
    found = network(write(tmp_path / "b", tensors), layout=theirs, spec=SPEC)
    assert np.array_equal(found.arrays["digit.kernel"], exact)
    wrong = dataclasses.replace(theirs, tensors={**theirs.tensors, "digit.bias": ("none", "j i")})
    with pytest.raises(WeightsError, match=r"missing digit.bias \(none\)"):
        network(write(tmp_path / "b", tensors), layout=wrong, spec=OFFICIAL)
    wrong = Layout("them", {**theirs.tensors, "digit.kernel": ("digit_capsules.weight", "d i k")})
    with pytest.raises(WeightsError, match=r"digit.kernel has axes 'd i k', expected 'i j k d'"):
        network(write(tmp_path / "b", tensors), layout=wrong, spec=SPEC)


# Kinds of files, prefixes, numbers.


def test_a_prefix_may_be_there_or_not(tmp_path):
    tensors = draw("adambielski")
    longer = {
        name if name.startswith("reconstruction") else f"capsnet.{name}": tensor
        for name, tensor in tensors.items()
    }
    short, long = (
        network(write(tmp_path / name, each), spec=SPEC).arrays
        for name, each in (("short", tensors), ("long", longer))
    )
    assert all(np.array_equal(short[name], long[name]) for name in short)


@pytest.mark.parametrize("group", ["", "model_weights/"])
@pytest.mark.parametrize(
    "dense",
    [
        ["decoder/dense", "decoder/dense_1", "decoder/dense_2"],
        ["dense_9/dense_9", "dense_10/dense_10", "dense_11/dense_11"],
        [f"decoder/decoder/dense_{n}" for n in (1, 2, 10)],
    ],
)
def test_keras_names_its_layers_in_many_ways(group, dense, batch, tmp_path):
    case = keras(dense)
    tensors = dict(zip(case.shapes, draw("xifengguo-keras").values(), strict=True))
    held = {group + name: tensor for name, tensor in tensors.items()}
    if group:
        held["optimizer_weights/Adam/iter:0"] = np.zeros(3)
    file = write(tmp_path / "them", held)
    ours = reference.forward(SPEC, network(file, spec=SPEC).arrays, *batch)
    assert wings.difference(ours["reconstruction"], case.forward(tensors, *batch)[1]) < 1e-13


def test_a_damaged_h5_file_is_refused(tmp_path):
    file = write(tmp_path / "them", draw("xifengguo-keras"))
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(WeightsError, match=r"not a whole \.h5 file"):
        network(file, spec=SPEC)


def test_an_npz_with_objects_is_refused(tmp_path):
    np.savez(tmp_path / "them.npz", a=np.array([{"code": 1}], dtype=object))
    with pytest.raises(WeightsError, match=r"not a whole \.npz file of plain arrays"):
        network(tmp_path / "them.npz", spec=SPEC)


@pytest.mark.skipif("torch" not in wings.NAMES, reason="needs PyTorch")
@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_of_pytorch_is_read_whatever_else_is_in_it(legacy, tmp_path):
    torch = wings.load("torch").weights.torch
    tensors = draw("cedrickchee")
    held = {f"module.{name}": torch.tensor(tensor) for name, tensor in tensors.items()}
    content = {"epoch": 3, "model_state_dict": held, "optimizer": {"state": {}, "param_groups": []}}
    torch.save(content, tmp_path / "them.pth", _use_new_zipfile_serialization=not legacy)
    found = convert(tmp_path / "them.pth", tmp_path / "ours.safetensors", spec=SPEC)
    exact = network(write(tmp_path / "them", tensors), spec=SPEC).arrays
    assert found.layout == "cedrickchee"
    assert all(np.array_equal(exact[name], found.arrays[name]) for name in exact)


# The language of axes.


def test_reorder_takes_a_tensor_apart_and_back():
    sizes = {"type": 3, "h": 5, "w": 7, "j": 11, "k": 2}
    array = np.arange(3 * 5 * 7 * 11 * 2).reshape(1, 105, 22)
    ours = reorder(array, "1 (type h w) (j k)", "(h w type) k j 1", sizes)
    assert ours.shape == shape("(h w type) k j 1", sizes) == (105, 2, 11, 1)
    for type_, h, w, j, k in np.ndindex(3, 5, 7, 11, 2):
        there = array[0, (type_ * 5 + h) * 7 + w, j * 2 + k]
        assert ours[(h * 7 + w) * 3 + type_, k, j, 0] == there
    back = reorder(ours, "(h w type) k j 1", "1 (type h w) (j k)", sizes)
    assert np.array_equal(back, array)


def test_solve_finds_what_shapes_tell_and_leaves_the_rest_open():
    tensors = [("(type h w) k", (105, 2)), ("(type k)", (6,)), ("(j d)", (143,)), ("w 1", (7, 1))]
    assert solve(tensors, {}) == {"k": 2, "type": 3, "w": 7, "h": 5}
    assert solve(tensors, {"d": 13})["j"] == 11


@pytest.mark.parametrize("name", CASES)
def test_names_of_another_network_match_no_row(name):
    names = [f"other.{each}" for each in CASES[name].shapes]
    assert matching(names) == []
    found = match(LAYOUTS[name], names)
    assert (found.sources, found.unexpected) == ({}, names)


def test_the_documentation_lists_every_row():
    text = (wings.ROOT / "docs" / "formats.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    named = {name: line for line in rows for name in re.findall(r"`([\w-]+)`", line.split("|")[1])}
    for name, layout in LAYOUTS.items():
        votes = ("digit.kernel", "capsule.0.route.kernel", "capsule.0.kernel")
        axes = layout.tensors[next(name for name in votes if name in layout.tensors)][1]
        assert "refused" in named[name] if layout.refused else f"`{axes}` |" in named[name]
        assert layout.refused or f"| {layout.capsules} |" in named[name]
