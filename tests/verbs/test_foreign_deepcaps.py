"""DeepCaps' own .h5 files: their names, their axes, and what they are refused for.

The names are those that Keras 2.2 gives the layers of the authors' model; numbers are random.
"""

import dataclasses

import numpy as np
import pytest

from parity.convert import network
from parity.spec import CapsuleLayer, Conv, Loss, Rajasegaran2019, Routing, Transposed
from parity.weights import WeightsError, check, table

# 16x16 -> 8x8 of 3 types of 2 -> 4x4 of 2 types of 5 -> 2x2 -> 1x1
SPEC = Rajasegaran2019(
    image=(16, 16, 3),
    stem=(Conv(7, 3),),
    capsules=(CapsuleLayer(3, 2, stride=2), *(CapsuleLayer(2, 5, stride=2),) * 3),
    skip=Routing("dynamic_3d", bias=True, released=True),
    classes=11,
    pose=13,
    decoder=(20,),
    upsampling=Transposed(channels=(7, 3, 5, 2), strides=(1, 2, 2, 2, 1)),
    loss=Loss(),
)


def drawn(spec=SPEC) -> dict[str, np.ndarray]:
    """Random numbers under their paths in the file, in the axes that the code gives them."""
    random, theirs = np.random.default_rng(5), {}

    def put(group: str, name: str, *shape: int) -> None:
        positive = name.endswith("variance")
        x = random.uniform(0.5, 2, shape) if positive else random.normal(0, 0.4, shape)
        theirs[f"{group}/{name}:0"] = x

    def norm(group: str, layer: str, width: int) -> None:
        for part in ("gamma", "beta", "moving_mean", "moving_variance"):
            put(group, f"{layer}/{part}", width)

    width = spec.stem[0].channels
    put("conv2d_1", "conv2d_1/kernel", 3, 3, spec.image[2], width)
    put("conv2d_1", "conv2d_1/bias", width)
    norm("batch_normalization_1", "batch_normalization_1", width)
    types, size, number = width, 1, 0
    for n, cell in enumerate(spec.capsules):
        for name in ("u", "skip", "one", "two"):
            if (n, name) == (3, "skip"):
                group = "conv_capsule_layer3d_1"
                put(group, f"{group}/W", size, 3, 3, 1, cell.types * cell.size)
                put(group, f"{group}/b", cell.types, cell.size, 1, 1)
                continue
            number += 1
            group = f"conv2d_caps_{number}"
            put(group, f"{group}/kernel", 3, 3, types, size, cell.types, cell.size)
            types, size = cell.types, cell.size
    inputs = spec.num_inputs
    put("digit_caps", "digit_caps/W", spec.classes, inputs, spec.pose, size)
    put("digit_caps", "digit_caps/B", spec.classes, spec.pose)
    put("decoder", "dense_1/kernel", spec.pose, spec.decoder[0])
    put("decoder", "dense_1/bias", spec.decoder[0])
    norm("decoder", "batch_normalization_2", spec.depth)
    width = spec.depth
    for n, out in enumerate((*spec.upsampling.channels, spec.image[2]), 1):
        put("decoder", f"conv2d_transpose_{n}/kernel", 3, 3, out, width)
        put("decoder", f"conv2d_transpose_{n}/bias", out)
        width = out
    return theirs


def write(path, theirs, whole: bool = False):
    """An .h5 as Keras 2.2 writes it: of weights alone, or of a whole model."""
    import h5py

    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        groups = list(dict.fromkeys(name.partition("/")[0] for name in theirs))
        root.attrs["layer_names"] = [name.encode() for name in groups]
        root.attrs["keras_version"], root.attrs["backend"] = b"2.2.4", b"tensorflow"
        for name, array in theirs.items():
            root[name] = array
    return path


def rows(n: int, name: str) -> str:
    """Path of the kernel of a cell's convolution."""
    number = 4 * n + ("caps.0", "skip", "caps.1", "caps.2").index(name) + 1
    number -= n == 3 and name in ("caps.1", "caps.2")
    return f"conv2d_caps_{number}/conv2d_caps_{number}/kernel:0"


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_tensor_is_the_files_in_our_axes(tmp_path, whole):
    theirs = drawn()
    found = network(write(tmp_path / "them.h5", theirs, whole), spec=SPEC)
    assert (found.layout, found.spec, found.taken) == ("deepcaps", SPEC, ())
    check(found.arrays, table(SPEC))
    taken = 0
    for n in range(4):
        for name in ("caps.0", "skip", "caps.1", "caps.2"):
            if (n, name) != (3, "skip"):
                ours = found.arrays[f"cell.{n}.{name}.kernel"]
                np.testing.assert_array_equal(ours, theirs[rows(n, name)].reshape(ours.shape))
                taken += 1
    assert taken == 15
    group = "conv_capsule_layer3d_1"
    kernel = theirs[f"{group}/{group}/W:0"]
    for ours, expected in (
        ("cell.3.skip.kernel", kernel[:, :, :, 0].transpose(1, 2, 0, 3)),
        ("cell.3.skip.bias", theirs[f"{group}/{group}/b:0"][:, :, 0, 0]),
        ("stem.0.norm.mean", theirs["batch_normalization_1/batch_normalization_1/moving_mean:0"]),
        ("digit.kernel", theirs["digit_caps/digit_caps/W:0"].transpose(1, 0, 3, 2)),
        ("digit.bias", theirs["digit_caps/digit_caps/B:0"]),
        ("decoder.0.kernel", theirs["decoder/dense_1/kernel:0"]),
        ("decoder.0.norm.variance", theirs["decoder/batch_normalization_2/moving_variance:0"]),
        ("decoder.5.kernel", theirs["decoder/conv2d_transpose_5/kernel:0"].transpose(0, 1, 3, 2)),
    ):
        np.testing.assert_array_equal(found.arrays[ours], expected, ours)


def test_what_is_not_this_network_is_refused(tmp_path):
    theirs = drawn()
    fewer = dataclasses.replace(SPEC, classes=7)
    file = write(tmp_path / "them.h5", theirs)
    with pytest.raises(WeightsError, match=r"digit_caps/W:0 has shape \(11, 10, 13, 5\), expected"):
        network(file, spec=fewer)
    del theirs["conv2d_caps_7/conv2d_caps_7/kernel:0"]
    with pytest.raises(WeightsError, match=r"missing cell\.3\.caps\.2\.kernel"):
        network(write(tmp_path / "short.h5", theirs), spec=SPEC)
