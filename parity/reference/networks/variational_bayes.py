"""Matrix capsules with variational Bayes routing, forward (Ribeiro, Leontidis, Kollias 2020).

Axes: B batch, H W C image or feature map, J output capsules, D size of a pose.
"""

from collections.abc import Mapping

from parity.reference.arrays import Array, double, relu, sigmoid
from parity.reference.capsules import Capsules, Tap, no_tap
from parity.reference.convolution import conv
from parity.reference.networks.efficient import normal, standardised
from parity.reference.networks.matrix import capsule_layer
from parity.spec import Ribeiro2020


def encode(
    spec: Ribeiro2020,
    arrays: Mapping[str, Array],
    images,
    tap: Tap = no_tap,
    *,
    train: bool = False,
) -> Capsules:
    """The class capsules of images; arguments as those of `networks.encode`."""

    def normed(x: Array, name: str) -> Array:
        return normal(spec.norm, arrays, x, name, tap, train)

    def by_type(poses: Array, name: str) -> Array:
        """[..., J, D] normalised: a type over all images, places and components."""
        return normed(poses.swapaxes(-1, -2), name).swapaxes(-1, -2)

    def convolved(x: Array, name: str, stride: int) -> Array:
        return tap(f"{name}.conv", conv(x, arrays[f"{name}.kernel"], stride))

    x = tap("pixels", standardised(tap("image", double(images)), spec.pixels, spec.norm.epsilon))
    for n, each in enumerate(spec.stem):
        x = normed(convolved(x, f"stem.{n}", each.stride), f"stem.{n}.norm")
        x = tap(f"stem.{n}.activation", relu(x))
    first = spec.primary
    logits = normed(convolved(x, "activation", first.stride), "activation.norm")
    # Capsules in (height, width, type) order: a channel is type * size + component.
    x = convolved(x, "primary", first.stride)
    poses = by_type(x.reshape(*x.shape[:3], first.types, first.size), "primary.norm")
    activations = tap("primary.activations", sigmoid(logits))
    poses = tap("primary.poses", poses)
    for n in range(len(spec.capsules) + 1):
        last = n == len(spec.capsules)
        inner = tap if last else lambda name, x, n=n: tap(f"capsule.{n}.{name}", x)
        poses, logits = capsule_layer(spec, arrays, n, poses, activations, tap, inner)
        if last:
            poses, logits = poses[:, 0, 0], logits[:, 0, 0]
        poses = by_type(poses, f"capsule.{n}.norm")
        logits = normed(logits, f"capsule.{n}.activation.norm")
        activations = tap(f"capsule.{n}.activations", sigmoid(logits))
    return Capsules(poses, activations)
