"""Any network of the table, forward, with its losses.

Axes: B batch, J classes, D size of a pose, P parts of a picture, H W C image.
"""

from collections.abc import Mapping
from types import ModuleType

import numpy as np

from parity.reference import losses
from parity.reference.arrays import Array, double
from parity.reference.capsules import Capsules, Tap, lengths, no_tap
from parity.reference.networks import (
    deepcaps,
    efficient,
    inverted,
    matrix,
    sabour2017,
    self_routing,
    variational_bayes,
)
from parity.spec import NetworkSpec

_FILES: dict[str, ModuleType] = {
    "sabour2017": sabour2017,
    "efficient": efficient,
    "self_routing": self_routing,
    "matrix": matrix,
    "inverted": inverted,
    "deepcaps": deepcaps,
    "variational_bayes": variational_bayes,
}


def mask(poses_BJD, targets) -> Array:
    """Sets every capsule but the targets' to 0 (Sabour et al. 2017, section 4.1): [B, J, D].

    Args:
        poses_BJD: Class capsules.
        targets: Integer labels [B], or 0/1 [B, J].
    """
    return double(poses_BJD) * losses.one_hot(targets, np.shape(poses_BJD)[1])[:, :, None]


def encode(
    spec: NetworkSpec,
    arrays: Mapping[str, Array],
    images,
    tap: Tap = no_tap,
    *,
    train: bool = False,
) -> Array:
    """The poses [B, J, D] of the class capsules of images; arguments as those of `capsules`."""
    poses_BJD = capsules(spec, arrays, images, tap, train=train).poses
    assert poses_BJD is not None, f"the class capsules of {spec.network} have no poses"
    return poses_BJD


def capsules(
    spec: NetworkSpec,
    arrays: Mapping[str, Array],
    images,
    tap: Tap = no_tap,
    *,
    train: bool = False,
) -> Capsules:
    """The class capsules of images.

    Args:
        spec: What the network is.
        arrays: The parameters and state by their canonical names (`parity.weights`).
        images: [B, H, W, C] in 0 to 1.
        tap: Sees, and may replace, each tensor by its name; new state too, by the names of its
            rows.
        train: Whether this is a training step, for networks where that differs.

    Returns:
        Poses [B, J, D], or None, and activations [B, J], or None.
    """
    return _FILES[spec.network].encode(spec, arrays, images, tap, train=train)


def decode(
    spec: NetworkSpec,
    arrays: Mapping[str, Array],
    masked_BJD: Array,
    tap: Tap = no_tap,
    *,
    train: bool = False,
) -> Array:
    """The decoder's images of masked class capsules.

    Args:
        spec: What the network is, with a decoder.
        arrays: The parameters and state by their canonical names.
        masked_BJD: Class capsules, all but one of them 0 (`mask`).
        tap: As in `capsules`.
        train: Whether this is a training step, for decoders where that differs.

    Returns:
        Images [B, H, W, C] in 0 to 1, or of at least 0 where the network promises no more.
    """
    return _FILES[spec.network].decode(spec, arrays, masked_BJD, tap, train=train)


def forward(
    spec: NetworkSpec,
    arrays: Mapping[str, Array],
    images,
    labels,
    tap: Tap = no_tap,
    parts: tuple | None = None,
    *,
    train: bool = False,
) -> dict[str, Array]:
    """Every tensor of a forward pass and its losses, by the name of its tap, in order.

    With parts there is a reconstruction of each of them, from the capsule of its class; without,
    one of the image, from the capsules of the labels. A network without a decoder has no
    `reconstruction` and no `loss.reconstruction`.

    Args:
        spec: What the network is.
        arrays: The parameters and state by their canonical names (`parity.weights`).
        images: [B, H, W, C] in 0 to 1.
        labels: Integers [B], or 0/1 [B, J].
        tap: Sees, and may replace, each tensor by its name.
        parts: What each image is made of: classes int [B, P], each alone [B, P, H, W, C].
        train: Whether this is a training step, for networks where that differs.

    Returns:
        What `tap` returned, by name.
    """
    seen: dict[str, Array] = {}

    def keep(name: str, x: Array) -> Array:
        seen[name] = tap(name, x)
        return seen[name]

    arrays = {name: double(array) for name, array in arrays.items()}
    found = capsules(spec, arrays, images, keep, train=train)
    poses_BJD = found.poses
    if spec.loss.kind == "margin":
        assert poses_BJD is not None
        how = spec.length_epsilon, spec.length_offset
        lengths_BJ = keep("lengths", lengths(poses_BJD, *how))
        names = ("positive", "negative", "down_weight")
        margins = {name: getattr(spec.loss, name) for name in names}
        loss = losses.margin(lengths_BJ, labels, **margins, scale=spec.margin_scale)
    elif spec.loss.kind == "spread":
        loss = losses.spread(found.activations, labels, margin=spec.loss.spread)
    elif spec.loss.kind == "cross_entropy":
        loss = losses.cross_entropy(found.activations, labels)
    else:
        loss = losses.negative_log_likelihood(found.log_activations, labels)
    # The decoder, from the capsules of the labels or of each part.
    goal = seen["image"]
    if spec.decoder is not None:
        assert poses_BJD is not None
        targets = labels
        if parts is not None:  # a picture for each of them, in one batch
            targets, goal = np.reshape(parts[0], -1), double(parts[1])
            poses_BJD = np.repeat(poses_BJD, goal.shape[1], 0)
        decoded = decode(spec, arrays, mask(poses_BJD, targets), keep, train=train)
        keep("reconstruction", decoded.reshape(goal.shape))
    # The losses; only the reconstruction is weighted here, as `margin` takes its own scale.
    loss = keep(f"loss.{spec.loss.kind}", loss)
    if spec.decoder is not None:
        error = losses.reconstruction(seen["reconstruction"], goal)
        loss = loss + spec.loss.reconstruction * keep("loss.reconstruction", error)
    keep("loss", loss)
    return seen
