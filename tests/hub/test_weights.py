"""The table of names, axes and shapes, turning axes by name, and the first draw."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from specs import PRIMES, same_bits

from parity import weights
from parity.spec import Conv, Init, preset
from parity.weights import draw, table, transpose


def count(spec, but=()):
    rows = table(spec).items()
    return sum(math.prod(row.shape) for name, row in rows if name.split(".")[0] not in but)


@pytest.mark.parametrize(
    ("name", "without", "decoder"),
    [
        # 81*256+256, 81*256*256+256, 1152*10*8*16; 160*512+512, 512*1024+1024, 1024*784+784
        ("sabour2017", 20_992 + 5_308_672 + 1_474_560, 82_432 + 525_312 + 803_600),
        # the same and a routing bias of 10*16
        ("sabour2017-official", 20_992 + 5_308_672 + 1_474_560 + 160, 82_432 + 525_312 + 803_600),
        # 49*16+16, 49*16*64+64, 1024*10*4*6; 60*128+128, 128*256+256, 256*784+784
        ("small", 800 + 50_240 + 245_760, 7_808 + 33_024 + 201_488),
    ],
)
def test_the_presets_have_the_parameters_of_a_count_by_hand(name, without, decoder):
    assert count(preset(name), but=("decoder",)) == without
    assert count(preset(name)) == without + decoder
    assert count(dataclasses.replace(preset(name), decoder=None)) == without


def test_the_totals_that_are_written_down():
    assert count(preset("small"), but=("decoder",)) == 296_800
    assert count(preset("sabour2017"), but=("decoder",)) == pytest.approx(6.8e6, rel=1e-2)
    assert count(preset("sabour2017")) == pytest.approx(8.2e6, rel=1e-2)


def test_every_row_of_a_network_of_different_primes():
    spec = dataclasses.replace(PRIMES, stem=(Conv(5, 3), Conv(23, 2)))
    assert {name: (row.axes, row.shape) for name, row in table(spec).items()} == {
        "stem.0.kernel": ("kh kw in out", (3, 3, 3, 5)),
        "stem.0.bias": ("out", (5,)),
        "stem.1.kernel": ("kh kw in out", (2, 2, 5, 23)),
        "stem.1.bias": ("out", (23,)),
        "primary.kernel": ("kh kw in out", (4, 4, 23, 14)),
        "primary.bias": ("out", (14,)),
        "digit.kernel": ("i j k d", (24, 3, 7, 5)),
        "digit.bias": ("j d", (3, 5)),
        "decoder.0.kernel": ("in out", (15, 17)),
        "decoder.0.bias": ("out", (17,)),
        "decoder.1.kernel": ("in out", (17, 19)),
        "decoder.1.bias": ("out", (19,)),
        "decoder.2.kernel": ("in out", (19, 429)),
        "decoder.2.bias": ("out", (429,)),
    }


def test_the_table_runs_in_the_order_of_execution():
    groups = [name.split(".")[0] for name in table(PRIMES)]
    assert [name for name, _ in itertools.groupby(groups)] == [
        "stem",
        "primary",
        "digit",
        "decoder",
    ]


def test_a_network_may_have_no_stem_no_decoder_and_a_decoder_without_hidden_layers():
    assert list(table(dataclasses.replace(PRIMES, stem=(), decoder=None))) == [
        *("primary.kernel", "primary.bias", "digit.kernel", "digit.bias")
    ]
    rows = table(dataclasses.replace(PRIMES, decoder=()))
    assert rows["decoder.0.kernel"].shape == (15, 429)


@pytest.mark.parametrize("axes", ["i j k d", "kh kw in out", "in out", "j d", "out"])
def test_every_order_of_axes_comes_back_by_name(axes):
    names = axes.split()
    sizes = dict(zip(names, (2, 3, 5, 7), strict=False))
    array = np.random.default_rng(0).standard_normal([sizes[name] for name in names])
    for order in itertools.permutations(names):
        turned = transpose(array, axes, " ".join(order))
        assert turned.shape == tuple(sizes[name] for name in order)
        for index in np.ndindex(*array.shape):
            place = dict(zip(names, index, strict=True))
            assert turned[tuple(place[name] for name in order)] == array[index]
        assert same_bits(np.array(transpose(turned, " ".join(order), axes)), array)


def test_axes_of_equal_sizes_are_still_told_apart():
    square = np.random.default_rng(0).standard_normal((3, 3))
    assert same_bits(transpose(square, "in out", "out in").copy(), square.T.copy())
    assert not np.array_equal(transpose(square, "in out", "out in"), square)
    cube = np.random.default_rng(0).standard_normal((3, 3, 3, 3))
    turned = transpose(cube, "kh kw in out", "out in kh kw")
    assert turned[2, 1, 0, 1] == cube[0, 1, 1, 2]


@pytest.mark.parametrize(("source", "target"), [("i j", "i k"), ("i j", "i"), ("i", "i j")])
def test_axes_that_are_not_the_same_are_an_error(source, target):
    with pytest.raises(ValueError, match=r"."):
        transpose(np.zeros([2] * len(source.split())), source, target)


def test_a_seed_means_the_same_network_every_time():
    one, again, other = draw(PRIMES, 7), draw(PRIMES, 7), draw(PRIMES, 8)
    assert all(same_bits(one[name], again[name]) for name in one)
    kernels = [name for name in one if name.endswith("kernel")]
    assert not any(np.array_equal(one[name], other[name]) for name in kernels)


def test_a_seed_means_the_same_network_for_ever():
    first = draw(PRIMES, 3)
    assert first["stem.0.kernel"].flat[:2] == pytest.approx([-0.00503511, -0.01296969], rel=1e-6)
    assert first["digit.kernel"].flat[:2] == pytest.approx([0.17226809, -0.12259277], rel=1e-6)


def test_a_tensor_is_drawn_without_regard_to_the_others():
    whole = draw(PRIMES, 5)
    bare = draw(dataclasses.replace(PRIMES, decoder=None), 5)
    deeper = draw(dataclasses.replace(PRIMES, decoder=(17, 19, 23)), 5)
    assert all(same_bits(bare[name], whole[name]) for name in bare)
    shared = [name for name in whole if not name.startswith("decoder.2")]
    assert all(same_bits(deeper[name], whole[name]) for name in shared)


def test_two_tensors_of_one_shape_differ():
    twins = draw(dataclasses.replace(PRIMES, decoder=(15, 15)), 0)
    assert not np.array_equal(twins["decoder.0.kernel"], twins["decoder.1.kernel"])


def test_kernels_are_normal_and_cut_at_two_deviations():
    spec = dataclasses.replace(preset("small"), init=Init(0.03, 0.05, 0.07, 0.11, bias=-0.25))
    first = draw(spec, 0)
    # the standard deviation of a normal that is cut at two of its own
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    cut = math.sqrt(1 - 4 * density / math.erf(math.sqrt(2)))
    for name, row in table(spec).items():
        values = first[name].astype(np.float64)
        assert values.dtype == np.float64
        assert first[name].dtype == np.float32
        if name.endswith("bias"):
            assert (values == -0.25).all()
            continue
        std = getattr(spec.init, name.split(".")[0])
        assert row.std == std
        assert np.abs(values).max() <= 2 * std * (1 + 1e-6)
        if values.size > 10_000:
            noise = 5 * std / math.sqrt(values.size)
            assert abs(values.mean()) < noise
            assert abs(values.std() - cut * std) < noise
            assert np.abs(values).max() > 1.99 * std


def test_a_deviation_of_zero_is_a_constant():
    flat = dataclasses.replace(PRIMES, init=Init(stem=0, primary=0, digit=0, decoder=0, bias=0.5))
    for name, values in draw(flat, 0).items():
        assert (values == (0 if name.endswith("kernel") else 0.5)).all()


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_an_optimiser_keeps_its_slots_under_the_parameters_names(optimizer):
    kinds = ("sgd.momentum",) if optimizer == "sgd" else ("adam.m", "adam.v")
    rows = weights.slots(PRIMES, optimizer)
    assert list(rows) == [f"{kind}/{name}" for kind in kinds for name in table(PRIMES)]
    assert all(row.shape == table(PRIMES)[key.split("/")[1]].shape for key, row in rows.items())
