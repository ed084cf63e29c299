"""The network of 2017, forward (Sabour, Frosst, Hinton 2017, figures 1 and 2).

Axes: B batch, I input capsules, J classes, K size of an input pose, D of an output pose, P parts
of a picture, H W C image.
"""

from collections.abc import Mapping

import numpy as np

from parity.reference import losses, routing
from parity.reference.arrays import Array, double, relu, sigmoid
from parity.reference.capsules import Tap, lengths, no_tap, squash, votes
from parity.reference.convolution import conv
from parity.spec import NetworkSpec


def mask(poses_BJD, targets) -> Array:
    """Sets every capsule but the targets' to 0 (section 4.1): [B, J, D].

    Args:
        poses_BJD: Class capsules.
        targets: Integer labels [B], or 0/1 [B, J].
    """
    return double(poses_BJD) * losses.one_hot(targets, np.shape(poses_BJD)[1])[:, :, None]


def encode(spec: NetworkSpec, arrays: Mapping[str, Array], images, tap: Tap = no_tap) -> Array:
    """The class capsules of images (figure 1).

    Args:
        spec: What the network is.
        arrays: The parameters by their canonical names (`parity.weights`).
        images: [B, H, W, C] in 0 to 1.
        tap: Sees, and may replace, each tensor by its name.

    Returns:
        Poses [B, J, D].
    """
    x = tap("image", double(images))
    for n, layer in enumerate(spec.stem):
        x = conv(x, arrays[f"stem.{n}.kernel"], layer.stride) + arrays[f"stem.{n}.bias"]
        x = tap(f"stem.{n}", relu(x))
    x = conv(x, arrays["primary.kernel"], spec.primary.stride) * spec.primary.scale
    x = tap("primary.conv", x + arrays["primary.bias"])
    # Capsules in (height, width, type) order: a channel is type * size + component.
    poses_BIK = tap("primary.poses", squash(x.reshape(len(x), -1, spec.primary.size)))
    owned = {
        own.argument(name): arrays[f"digit.{name}"] for name, own in spec.routing.owned.items()
    }
    votes_BIJD = tap("votes", votes(poses_BIK, arrays["digit.kernel"]))
    route = getattr(routing, spec.routing.name)
    poses_BJD, _ = route(votes_BIJD, **owned, **spec.routing.options, tap=tap)
    return poses_BJD


def decode(spec: NetworkSpec, arrays: Mapping[str, Array], masked_BJD: Array) -> Array:
    """The decoder's images of masked class capsules (figure 2).

    Args:
        spec: What the network is, with a decoder.
        arrays: The parameters by their canonical names.
        masked_BJD: Class capsules, all but one of them 0 (`mask`).

    Returns:
        Images [B, H, W, C] in 0 to 1.
    """
    assert spec.decoder is not None
    x = masked_BJD.reshape(len(masked_BJD), -1)
    for n in range(len(spec.decoder) + 1):
        activation = sigmoid if n == len(spec.decoder) else relu
        x = activation(x @ arrays[f"decoder.{n}.kernel"] + arrays[f"decoder.{n}.bias"])
    return x.reshape(len(x), *spec.image)


def forward(
    spec: NetworkSpec,
    arrays: Mapping[str, Array],
    images,
    labels,
    tap: Tap = no_tap,
    parts: tuple | None = None,
) -> dict[str, Array]:
    """Every tensor of a forward pass and its losses, by tap name, in order.

    With parts there is a reconstruction of each of them, from the capsule of its class; without,
    one of the image, from the capsules of the labels. A network without a decoder has no
    `reconstruction` and no `loss.reconstruction`.

    Args:
        spec: What the network is.
        arrays: The parameters by their canonical names (`parity.weights`).
        images: [B, H, W, C] in 0 to 1.
        labels: Integers [B], or 0/1 [B, J].
        tap: Sees, and may replace, each tensor by its name.
        parts: What each image is made of: classes int [B, P], each alone [B, P, H, W, C].

    Returns:
        What `tap` returned, by name.
    """
    seen: dict[str, Array] = {}

    def keep(name: str, x: Array) -> Array:
        seen[name] = tap(name, x)
        return seen[name]

    arrays = {name: double(array) for name, array in arrays.items()}
    poses_BJD = encode(spec, arrays, images, keep)
    lengths_BJ = keep("lengths", lengths(poses_BJD))
    # The decoder, from the capsules of the labels or of each part.
    goal = seen["image"]
    if spec.decoder is not None:
        if parts is None:
            decoded = decode(spec, arrays, mask(poses_BJD, labels))
        else:
            classes_PB, goal = np.transpose(parts[0]), double(parts[1])
            images_PB = [
                decode(spec, arrays, mask(poses_BJD, classes_B)) for classes_B in classes_PB
            ]
            decoded = np.stack(images_PB, 1)
        keep("reconstruction", decoded)
    # The losses; only the reconstruction is weighted here, as `margin` takes its own scale.
    margins = {name: getattr(spec.loss, name) for name in ("positive", "negative", "down_weight")}
    loss = losses.margin(lengths_BJ, labels, **margins, scale=spec.margin_scale)
    loss = keep("loss.margin", loss)
    if spec.decoder is not None:
        error = losses.reconstruction(seen["reconstruction"], goal)
        loss = loss + spec.loss.reconstruction * keep("loss.reconstruction", error)
    keep("loss", loss)
    return seen
