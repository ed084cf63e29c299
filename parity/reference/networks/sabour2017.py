"""The network of 2017, forward (Sabour, Frosst, Hinton 2017, figures 1 and 2).

Axes: B batch, I input capsules, J classes, K size of an input pose, D of an output pose, H W C
image.
"""

from collections.abc import Mapping

from parity.reference import routing
from parity.reference.arrays import Array, double, relu, sigmoid
from parity.reference.capsules import Capsules, Tap, no_tap, squash, votes
from parity.reference.convolution import conv
from parity.spec import NetworkSpec, Sabour2017


def encode(
    spec: Sabour2017, arrays: Mapping[str, Array], images, tap: Tap = no_tap, *, train: bool = False
) -> Capsules:
    """The class capsules of images (figure 1); arguments as those of `networks.encode`."""
    x = tap("image", double(images))
    for n, layer in enumerate(spec.stem):
        x = conv(x, arrays[f"stem.{n}.kernel"], layer.stride) + arrays[f"stem.{n}.bias"]
        x = tap(f"stem.{n}", relu(x))
    x = conv(x, arrays["primary.kernel"], spec.primary.stride) * spec.primary.scale
    x = tap("primary.conv", x + arrays["primary.bias"])
    # Capsules in (height, width, type) order: a channel is type * size + component.
    poses_BIK = tap("primary.poses", squash(x.reshape(len(x), -1, spec.primary.size)))
    return class_capsules(spec, arrays, poses_BIK, tap)


def class_capsules(
    spec: NetworkSpec, arrays: Mapping[str, Array], poses_BIK: Array, tap: Tap = no_tap
) -> Capsules:
    """The class capsules [B, J, D] that the primary ones [B, I, K] vote for, by the routing."""
    owned = {
        own.argument(name): arrays[f"digit.{name}"] for name, own in spec.routing.owned.items()
    }
    votes_BIJD = tap("votes", votes(poses_BIK, arrays["digit.kernel"]))
    route = getattr(routing, spec.routing.name)
    poses_BJD, _ = route(votes_BIJD, **owned, **spec.routing.options, tap=tap)
    return Capsules(poses_BJD)


def decode(
    spec: NetworkSpec,
    arrays: Mapping[str, Array],
    masked_BJD: Array,
    tap: Tap = no_tap,
    *,
    train: bool = False,
) -> Array:
    """The decoder's images; arguments as those of `networks.decode`."""
    assert spec.decoder is not None
    x = masked_BJD.reshape(len(masked_BJD), -1)
    for n in range(len(spec.decoder) + 1):
        activation = sigmoid if n == len(spec.decoder) else relu
        x = activation(x @ arrays[f"decoder.{n}.kernel"] + arrays[f"decoder.{n}.bias"])
    return x.reshape(len(x), *spec.image)
