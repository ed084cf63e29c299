"""Checkpoints of variational Bayes routing's own code: their names, axes and what is refused.

The networks are ours, in NumPy, in the manner of its authors' code: its names, its axes and its way
to make capsules and votes. The routing is the oracle's, which has golden numbers of its own.
"""

import dataclasses

import numpy as np
import pytest
import wings
from foreign_networks import conv_oihw, write

from parity import reference
from parity.convert import describe, network
from parity.spec import CapsuleLayer, Conv, Pixels, Primary, Ribeiro2020, Window
from parity.weights import WeightsError, check, table

# 19x15 -> 8x6 of 2 types of 2x2 -> 3x2 of 5 -> 2x1 of 7 -> three classes
SPEC = Ribeiro2020(
    image=(19, 15, 2),
    pixels=Pixels(),
    stem=(Conv(11, 5, 2),),
    primary=Primary(types=2, size=4, kernel=1, stride=1),
    capsules=(CapsuleLayer(5, 4, 3, 2), CapsuleLayer(7, 4, 2, 1)),
    classes=3,
    released=True,
)
TINY = dataclasses.replace(
    SPEC,
    primary=Primary(types=2, size=4, kernel=3, stride=2),
    capsules=(),
    coordinates=0.0,
    shared=False,
)
NAMES = {"fabio-deep": SPEC, "fabio-deep-tiny": TINY}
LAYERS = {"fabio-deep": ("Conv{}_1", "Conv{}_2", "Class{}"), "fabio-deep-tiny": ("Class{}",)}


def drawn(name: str) -> dict[str, np.ndarray]:
    """Random numbers under the names that the code gives them, in its axes; and its constants."""
    spec, random, theirs = NAMES[name], np.random.default_rng(5), {}

    def put(place: str, *shape: int) -> None:
        positive = place.endswith("running_var")
        theirs[place] = random.uniform(0.5, 2, shape) if positive else random.normal(0, 0.4, shape)

    def norm(place: str, width: int, affine: bool = True) -> None:
        for part in ("weight", "bias") * affine + ("running_mean", "running_var"):
            put(f"{place}.{part}", width)
        theirs[f"{place}.num_batches_tracked"] = np.array(7)

    (stem,), first, side = spec.stem, spec.primary, spec.side
    put("Conv_1.weight", stem.channels, spec.image[2], 5, 5)
    norm("BN_1", stem.channels)
    put("PrimaryCaps.weight", first.types * 5, stem.channels, first.kernel, first.kernel)
    norm("PrimaryCaps.BN_a", first.types)
    norm("PrimaryCaps.BN_p", first.types)
    types = first.types
    for n, layer in enumerate(LAYERS[name]):
        last = n == len(spec.capsules)
        outputs = spec.classes if last else spec.capsules[n].types
        places = (1, 1) if last and spec.shared else spec.windows[n].kernel
        votes, routing = (layer.format(what) for what in ("Caps", "Routing"))
        put(f"{votes}.W_ij", 1, types, outputs, 1, side, side, 1, 1, *places)
        for beta in ("beta_u", "beta_a"):
            put(f"{routing}.{beta}", 1, 1, outputs, *(1,) * 6)
        norm(f"{routing}.BN_v", outputs, False)
        norm(f"{routing}.BN_a", outputs, False)
        for constant in ("m0", "Psi0", "lndet_Psi0", "diga_arg", "Dlog2", "Dlog2pi", "filter"):
            theirs[f"{routing}.{constant}"] = np.ones(3)
        types = outputs
    return theirs


def forward(name: str, theirs: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """Activations of the classes in evaluation, [?, B, P, P, F, F] as the code has capsules."""
    spec = NAMES[name]

    def normed(x: np.ndarray, place: str) -> np.ndarray:
        """By channel, the second axis."""
        scale, shift = theirs.get(f"{place}.weight", 1.0), theirs.get(f"{place}.bias", 0.0)
        mean, var = (theirs[f"{place}.running_{part}"] for part in ("mean", "var"))
        y = (np.moveaxis(x, 1, -1) - mean) / np.sqrt(var + 1e-5) * scale + shift
        return np.moveaxis(y, -1, 1)

    x = conv_oihw(images.transpose(0, 3, 1, 2), theirs["Conv_1.weight"], 2)
    x = np.maximum(normed(x, "BN_1"), 0)
    x = conv_oihw(x, theirs["PrimaryCaps.weight"], spec.primary.stride)
    count = spec.primary.channels
    poses = normed(x[:, :count].reshape(len(x), -1, 4, *x.shape[2:]), "PrimaryCaps.BN_p")
    poses = poses.reshape(len(x), -1, 2, 2, *x.shape[2:])
    active = reference.sigmoid(normed(x[:, count:], "PrimaryCaps.BN_a"))
    for n, layer in enumerate(LAYERS[name]):
        votes, routing = (layer.format(what) for what in ("Caps", "Routing"))
        (rows, columns), stride = spec.windows[n].kernel, spec.windows[n].stride
        cut = np.lib.stride_tricks.sliding_window_view
        seen = cut(poses, (rows, columns), (4, 5))[..., ::stride, ::stride, :, :]
        alive = cut(active, (rows, columns), (2, 3))[:, :, ::stride, ::stride]
        # [?, B, C, P, P, F, F, K, K], then ours: [?, F F, K K B, C, P P]
        v = (seen[:, :, None, :, :, None] * theirs[f"{votes}.W_ij"]).sum(4)
        if layer == "Class{}" and spec.coordinates:
            v[:, :, :, :, 1] += np.array([0.1, 0.1]).reshape(2, 1, 1, 1, 1)
        size, places = v.shape[0], v.shape[5] * v.shape[6]
        v = v.transpose(0, 5, 6, 7, 8, 1, 2, 3, 4)
        v = v.reshape(size, places, -1, v.shape[6], 4)
        a = alive.transpose(0, 2, 3, 4, 5, 1).reshape(v.shape[:3])
        beta_a, beta_u = (theirs[f"{routing}.{beta}"].ravel() for beta in ("beta_a", "beta_u"))
        window = Window(*spec.windows[n])
        means, logits, _ = reference.routing.variational_bayes(
            v, a, beta_a_J=beta_a, beta_u_J=beta_u, window=window
        )
        grid = window.places
        means = np.moveaxis(means.reshape(size, *grid, -1, 4), (3, 4), (1, 2))
        logits = np.moveaxis(logits.reshape(size, *grid, -1), 3, 1)
        poses = normed(means, f"{routing}.BN_v").reshape(size, -1, 2, 2, *grid)
        active = reference.sigmoid(normed(logits, f"{routing}.BN_a"))
    return active[:, :, 0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_converted_weights_compute_what_the_foreign_network_does(name, tmp_path):
    theirs, spec = drawn(name), NAMES[name]
    wrapped = {f"module.{each}": tensor for each, tensor in theirs.items()}  # on several GPUs
    for tensors in (theirs, wrapped):
        file = write(tmp_path / "them", tensors)
        assert describe(file)["layouts"] == [name]
        found = network(file, spec=spec)
        assert found.layout == name
        check(found.arrays, table(spec))
    images = np.random.default_rng(7).uniform(0, 1, (3, *spec.image))
    ours = reference.forward(spec, found.arrays, images, np.array([2, 0, 1]))
    last = f"capsule.{len(spec.capsules)}.activations"
    assert wings.difference(ours[last], forward(name, theirs, images)) < 1e-13
    assert np.std(ours[last]) > 1e-2


def test_first_capsules_of_another_size_are_refused(tmp_path):
    file = write(tmp_path / "them", drawn("fabio-deep"))
    other = dataclasses.replace(SPEC, primary=Primary(types=3, size=4, kernel=1, stride=1))
    with pytest.raises(WeightsError, match=r"PrimaryCaps.weight/poses has shape \(10, 11, 1, 1\)"):
        network(file, layout="fabio-deep", spec=other)
