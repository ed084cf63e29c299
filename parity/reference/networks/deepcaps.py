"""DeepCaps, forward (Rajasegaran et al. 2019, their own code).

Axes: B batch, Y X a grid, P = Y X in a row, I input capsules or types of children, J classes or
types of parents, K size of an input pose, D of an output pose, H W C image or feature map.
"""

from collections.abc import Mapping

import numpy as np

from parity.reference import routing
from parity.reference.arrays import Array, double, relu
from parity.reference.capsules import Capsules, Tap, no_tap, squash
from parity.reference.convolution import conv, same, transposed
from parity.reference.networks import sabour2017
from parity.reference.networks.efficient import normal
from parity.spec import CapsuleLayer, Rajasegaran2019

EPSILON = 1e-7  # Keras' own, in the squash of capsules that are not routed


def encode(
    spec: Rajasegaran2019,
    arrays: Mapping[str, Array],
    images,
    tap: Tap = no_tap,
    *,
    train: bool = False,
) -> Capsules:
    """The class capsules of images; arguments as those of `networks.encode`."""
    x = tap("image", double(images))
    for n, layer in enumerate(spec.stem):
        name = f"stem.{n}"
        x = conv(same(x, layer.kernel, layer.stride), arrays[f"{name}.kernel"], layer.stride)
        x = tap(f"{name}.conv", x + arrays[f"{name}.bias"])
        # The authors normalise what relu has left.
        for what in ("norm", "activation") if spec.norm.first else ("activation", "norm"):
            if what == "norm":
                x = normal(spec.norm, arrays, x, f"{name}.norm", tap, train)
            else:
                x = tap(f"{name}.activation", relu(x))
    # Its channels are capsules of one number, which are not squashed.
    seen = []
    for n, layer in enumerate(spec.capsules):
        poses_BYXJD = cell(spec, arrays, x, n, layer, tap)
        x = poses_BYXJD.reshape(*poses_BYXJD.shape[:3], -1)
        seen.append(poses_BYXJD.reshape(len(x), -1, layer.size))
    # The classes see the last cell's capsules, then those of the one before.
    inputs_BIK = tap("primary.poses", np.concatenate(seen[:-3:-1], 1))
    return sabour2017.class_capsules(spec, arrays, inputs_BIK, tap)


def cell(
    spec: Rajasegaran2019,
    arrays: Mapping[str, Array],
    x_BHWC: Array,
    number: int,
    layer: CapsuleLayer,
    tap: Tap,
) -> Array:
    """A cell's capsules [B, Y, X, J, D]: a sum of squashed ones, which is not squashed again."""
    name = f"cell.{number}"

    def capsules(x: Array, which: str, stride: int = 1) -> Array:
        """A convolution to capsules, squashed, as a feature map."""
        x = conv(same(x, layer.kernel, stride), arrays[f"{name}.{which}.kernel"], stride)
        x = tap(f"{name}.{which}.conv", x)
        poses = squash(x.reshape(*x.shape[:3], layer.types, layer.size), epsilon=EPSILON)
        return tap(f"{name}.{which}.poses", poses).reshape(x.shape)

    u = capsules(x_BHWC, "caps.0", layer.stride)
    shape = (*u.shape[:3], layer.types, layer.size)
    if number == len(spec.capsules) - 1:
        skip = routed(spec, arrays, u.reshape(shape), f"{name}.skip", tap)
    else:
        skip = capsules(u, "skip").reshape(shape)
    y = capsules(capsules(u, "caps.1"), "caps.2")
    return tap(name, y.reshape(shape) + skip)


def routed(
    spec: Rajasegaran2019, arrays: Mapping[str, Array], poses_BHWIK: Array, name: str, tap: Tap
) -> Array:
    """Capsules [B, Y, X, J, D] routed over a whole grid, by one kernel for every type of child."""
    batch, height, width, inputs, size = poses_BHWIK.shape
    if spec.skip.options.get("released"):
        # The authors read the memory [H, W, I, K] as [I, K, H, W], which mixes up all of them.
        mixed = poses_BHWIK.reshape(batch, inputs, size, height, width)
        poses_BHWIK = mixed.transpose(0, 3, 4, 1, 2)
    kernel = arrays[f"{name}.kernel"]
    each = [conv(same(poses_BHWIK[:, :, :, i], len(kernel), 1), kernel, 1) for i in range(inputs)]
    votes_BYXI = np.stack(each, 3)
    last = spec.capsules[-1]
    votes = votes_BYXI.reshape(batch, height * width, inputs, last.types, last.size)
    votes_BPIJD = tap(f"{name}.votes", votes)
    own = spec.skip.owned.items()
    given = {each.argument(key): arrays[f"{name}.{key}"] for key, each in own}
    route = getattr(routing, spec.skip.name)
    inner = lambda key, x: tap(f"{name}.{key}", x)  # noqa: E731
    poses_BPJD, _ = route(votes_BPIJD, **given, **spec.skip.options, tap=inner)
    return poses_BPJD.reshape(batch, height, width, last.types, last.size)


def decode(
    spec: Rajasegaran2019,
    arrays: Mapping[str, Array],
    masked_BJD: Array,
    tap: Tap = no_tap,
    *,
    train: bool = False,
) -> Array:
    """The decoder's images; arguments as those of `networks.decode`.

    The same for all classes: what it is given is the pose of the one that is left.
    """
    assert spec.decoder is not None
    x, up = masked_BJD.sum(1), spec.upsampling
    for n in range(len(spec.decoder)):
        x = relu(x @ arrays[f"decoder.{n}.kernel"] + arrays[f"decoder.{n}.bias"])
        x = tap(f"decoder.{n}", x)
    x = x.reshape(len(x), *spec.side, -1)
    first = len(spec.decoder)
    x = normal(up.norm, arrays, x, f"decoder.{first - 1}.norm", tap, train)
    for n, stride in enumerate(up.strides, first):
        x = transposed(x, arrays[f"decoder.{n}.kernel"], stride) + arrays[f"decoder.{n}.bias"]
    return relu(x)
