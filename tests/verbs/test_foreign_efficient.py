"""Efficient-CapsNet's own .h5 files: their names, their axes, and what they are refused for.

The networks are ours, in NumPy, in the manner of its authors' code; the names are those of its
layers in Keras 2, and of a file that its authors released.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest
import wings
from foreign_networks import conv_hwio, decode

from parity import reference
from parity.convert import network
from parity.spec import Conv, preset
from parity.spec.layers import Depthwise, Norm, Upsampling
from parity.spec.networks import Efficient
from parity.weights import WeightsError, check, table

# The last map is 3x3, as large as the capsules' filters.
SPEC = Efficient(
    image=(14, 13, 2),
    stem=(Conv(5, 3), Conv(7, 3), Conv(11, 3), Conv(6, 3, 2)),
    primary=Depthwise(types=3, size=2, kernel=3),
    classes=13,
    pose=17,
    decoder=(19, 23),
)
TOYS = dataclasses.replace(
    SPEC,
    image=(14, 14, 2),
    norm=Norm(kind="instance"),
    decoder=(64,),
    upsampling=Upsampling(channels=(7,), kernel=2),
)
# First capsules, class capsules, and the number of the first convolution.
NAMES = {
    "efficient": ("Efficient_CapsNet", "primary_caps_1/conv2d_4", "fc_caps_1", 0),
    "efficient-released": ("CapsNet", "conv2d_11", "digit_caps", 7),
}


def layer(kind: str, number: int) -> str:
    """The name that Keras gives to the number-th layer of a kind in a process."""
    return f"{kind}_{number}" if number else kind


def drawn(spec: Any, name: str) -> dict[str, np.ndarray]:
    """Random numbers under the names that the code gives them, in its axes."""
    model, primary, digit, first = NAMES[name]
    random, theirs = np.random.default_rng(5), {}

    def put(place: str, *shape: int) -> None:
        positive = place.endswith("variance:0")
        theirs[place] = random.uniform(0.5, 2, shape) if positive else random.normal(0, 0.4, shape)

    width, kind = spec.image[2], spec.norm.kind
    for n, conv in enumerate(spec.stem):
        place = f"{model}/{layer('conv2d', first + n)}"
        put(f"{place}/kernel:0", conv.kernel, conv.kernel, width, conv.channels)
        put(f"{place}/bias:0", conv.channels)
        moving = ("moving_mean", "moving_variance") if kind == "batch" else ()
        for part in ("gamma", "beta", *moving):
            put(f"{model}/{layer(f'{kind}_normalization', n)}/{part}:0", conv.channels)
        width = conv.channels
    kernel, count, size = spec.primary.kernel, spec.primary.types, spec.primary.size
    put(f"{model}/{primary}/kernel:0", kernel, kernel, 1, width)
    put(f"{model}/{primary}/bias:0", width)
    put(f"{model}/{digit}/W:0", spec.classes, count, size, spec.pose)
    put(f"{model}/{digit}/b:0", spec.classes, count, 1)
    dense = [n for n, row in enumerate(rows(spec)) if len(row) == 2]
    for n, shape in enumerate(rows(spec)):
        place = layer("dense", n) if n in dense else layer("conv2d", n - len(dense))
        put(f"Generator/{place}/kernel:0", *shape)
        put(f"Generator/{place}/bias:0", shape[-1])
    return theirs


def rows(spec: Any) -> list[tuple[int, ...]]:
    """The shapes of the decoder's kernels."""
    every = table(spec).items()
    return [row.shape for name, row in every if name.startswith("decoder") and "kernel" in name]


def write(path, theirs):
    """An .h5 as Keras 2 writes it: a group a layer, which lists the names of its weights."""
    import h5py

    with h5py.File(path.with_suffix(".h5"), "w") as file:
        groups = list(dict.fromkeys(name.partition("/")[0] for name in theirs))
        file.attrs["layer_names"] = [name.encode() for name in groups]
        file.attrs["keras_version"], file.attrs["backend"] = b"2.4.0", b"tensorflow"
        for group in groups:
            held = [name for name in theirs if name.startswith(f"{group}/")]
            paths = [name.partition("/")[2].encode() for name in held]
            file.create_group(group).attrs["weight_names"] = paths
            for name in held:
                file[name] = theirs[name]
    return path.with_suffix(".h5")


def squash(x):
    length = np.sqrt((x * x).sum(-1, keepdims=True))
    return (1 - np.exp(-length)) * x / length


def forward(theirs, name, images, labels):
    """Class capsules and reconstructions of the network for digits, with running numbers."""
    model, primary, digit, first = NAMES[name]

    def of(place):
        return theirs[f"{model}/{place}:0"]

    x = images
    for n, conv in enumerate(SPEC.stem):
        place, norm = layer("conv2d", first + n), layer("batch_normalization", n)
        x = conv_hwio(x, of(f"{place}/kernel"), conv.stride) + of(f"{place}/bias")
        x = np.maximum(x, 0) - of(f"{norm}/moving_mean")
        x = x / np.sqrt(of(f"{norm}/moving_variance") + 1e-3)
        x = x * of(f"{norm}/gamma") + of(f"{norm}/beta")
    kernel = of(f"{primary}/kernel")[:, :, 0]
    x = (x * kernel).sum((1, 2)) + of(f"{primary}/bias")
    u = squash(x.reshape(len(x), 3, 2))
    votes = np.einsum("bik,jikd->bjid", u, of(f"{digit}/W"))
    logits = np.einsum("bjid,bjnd->bji", votes, votes)[..., None] / np.sqrt(17)
    powers = np.exp(logits)
    poses = squash((votes * (powers / powers.sum(1, keepdims=True) + of(f"{digit}/b"))).sum(2))
    names = [f"Generator/{layer('dense', n)}" for n in range(3)]
    pairs = [(theirs[f"{each}/kernel:0"], theirs[f"{each}/bias:0"]) for each in names]
    return poses, decode(poses, labels, pairs).reshape(-1, *SPEC.image)


@pytest.mark.parametrize("name", NAMES)
def test_converted_weights_compute_what_the_authors_code_does(name, tmp_path):
    theirs, random = drawn(SPEC, name), np.random.default_rng(7)
    found = network(write(tmp_path / "them", theirs), spec=SPEC)
    assert (found.layout, found.taken) == (name, ())
    check(found.arrays, table(SPEC))
    images, labels = random.uniform(0, 1, (3, *SPEC.image)), np.array([12, 0, 4])
    ours = reference.forward(SPEC, found.arrays, images, labels)
    poses, decoded = forward(theirs, name, images, labels)
    assert wings.difference(ours["routing.0.poses"], poses) < 1e-13
    assert wings.difference(ours["reconstruction"], decoded) < 1e-13
    assert np.std(decoded) > 1e-2


@pytest.mark.parametrize("name", NAMES)
def test_toys_have_another_norm_and_decoder(name, tmp_path):
    """Every canonical tensor is that of the file, its axes in our order."""
    theirs = drawn(TOYS, name)
    found = network(write(tmp_path / "them", theirs), spec=TOYS)
    check(found.arrays, table(TOYS))
    model, primary, digit, first = NAMES[name]
    stem = layer("conv2d", first + 2)
    for ours, place, axes in (
        ("stem.2.kernel", f"{model}/{stem}/kernel", (0, 1, 2, 3)),
        ("stem.2.norm.scale", f"{model}/instance_normalization_2/gamma", (0,)),
        ("stem.2.norm.shift", f"{model}/instance_normalization_2/beta", (0,)),
        ("primary.kernel", f"{model}/{primary}/kernel", (0, 1, 3, 2)),
        ("digit.kernel", f"{model}/{digit}/W", (1, 0, 2, 3)),
        ("digit.prior", f"{model}/{digit}/b", (1, 0, 2)),
        ("decoder.0.kernel", "Generator/dense/kernel", (0, 1)),
        ("decoder.1.kernel", "Generator/conv2d/kernel", (0, 1, 2, 3)),
        ("decoder.2.bias", "Generator/conv2d_1/bias", (0,)),
    ):
        expected = theirs[f"{place}:0"].transpose(axes)
        np.testing.assert_array_equal(
            found.arrays[ours], expected.reshape(found.arrays[ours].shape)
        )


def test_a_preset_takes_its_own_file_and_refuses_another_variant_with_one_message(tmp_path):
    names = ("efficient", "efficient-multimnist")
    files = {each: write(tmp_path / each, drawn(preset(each), "efficient")) for each in names}
    for name, file in files.items():
        assert network(file, preset=name).spec == preset(name)
        (other,) = set(names) - {name}
        with pytest.raises(WeightsError, match="not this network in layout efficient, ") as caught:
            network(file, preset=other)
        kernel = table(preset(name))["primary.kernel"].shape[0]
        asked = table(preset(other))["primary.kernel"].shape[0]
        place = "Efficient_CapsNet/primary_caps_1/conv2d_4/kernel:0"
        assert (
            f"{place} has shape ({kernel}, {kernel}, 1, 128), "
            f"expected ({asked}, {asked}, 1, 128) (kh kw 1 out)" in str(caught.value)
        )
        with pytest.raises(WeightsError, match=r"missing|unexpected .*moving_mean"):
            network(file, spec=TOYS)


def test_a_file_without_its_running_numbers_is_refused(tmp_path):
    theirs = drawn(SPEC, "efficient")
    del theirs["Efficient_CapsNet/batch_normalization_3/moving_variance:0"]
    with pytest.raises(WeightsError, match=r"missing stem.3.norm.variance \(.*moving_variance"):
        network(write(tmp_path / "them", theirs), spec=SPEC)
