"""Efficient-CapsNet, forward (Mazzia, Salvetti, Chiaberge 2021, their own code).

Axes: B batch, I input capsules, J classes, K size of an input pose, D of an output pose, H W C
image or feature map.
"""

from collections.abc import Mapping

import numpy as np

from parity.reference import norm
from parity.reference.arrays import Array, double, leaky, relu, sigmoid
from parity.reference.capsules import Capsules, Tap, exponential_squash, no_tap
from parity.reference.convolution import conv, depthwise, double_size
from parity.reference.networks import sabour2017
from parity.spec import Efficient, Norm, Pixels


def encode(
    spec: Efficient, arrays: Mapping[str, Array], images, tap: Tap = no_tap, *, train: bool = False
) -> Capsules:
    """The class capsules of images; arguments as those of `networks.encode`."""
    x = tap("pixels", standardised(tap("image", double(images)), spec.pixels, spec.norm.epsilon))
    for n, layer in enumerate(spec.stem):
        x = conv(x, arrays[f"stem.{n}.kernel"], layer.stride) + arrays[f"stem.{n}.bias"]
        x = tap(f"stem.{n}.conv", x)
        # The authors normalise what relu has left.
        for what in ("norm", "activation") if spec.norm.first else ("activation", "norm"):
            if what == "norm":
                x = normal(spec.norm, arrays, x, f"stem.{n}.norm", tap, train)
            else:
                x = tap(f"stem.{n}.activation", leaky(x, spec.slope))
    x = depthwise(x, arrays["primary.kernel"], spec.primary.stride)
    x = tap("primary.conv", x + arrays["primary.bias"])
    # Capsules in (height, width, type) order: a channel is type * size + component.
    poses_BIK = exponential_squash(x.reshape(len(x), -1, spec.primary.size))
    return sabour2017.class_capsules(spec, arrays, tap("primary.poses", poses_BIK), tap)


def standardised(x_BHWC: Array, pixels: Pixels, epsilon: float) -> Array:
    """What a network's first layer makes of images in [0, 1]: see `parity.spec.Pixels`."""
    x_BHWC = (x_BHWC - np.array(pixels.mean)) / np.array(pixels.deviation)
    if not pixels.own:
        return x_BHWC
    own = norm.layer if pixels.joint else norm.instance
    return own(x_BHWC, None, None, epsilon=epsilon)


def normal(
    spec: Norm, arrays: Mapping[str, Array], x: Array, name: str, tap: Tap, train: bool
) -> Array:
    """The normalisation of this name; its new running numbers pass the tap by their names."""
    own = {part: arrays.get(f"{name}.{part}") for part in ("scale", "shift")}
    if spec.kind != "batch":
        function = getattr(norm, spec.kind)
        return tap(name, function(x, **own, epsilon=spec.epsilon))
    running = (arrays[f"{name}.mean"], arrays[f"{name}.variance"])
    keep, epsilon = spec.keep, spec.epsilon
    y, mean, variance = norm.batch(
        x, own["scale"], own["shift"], *running, train=train, keep=keep, epsilon=epsilon
    )
    if train:
        tap(f"{name}.mean", mean)
        tap(f"{name}.variance", variance)
    return tap(name, y)


def decode(
    spec: Efficient,
    arrays: Mapping[str, Array],
    masked_BJD: Array,
    tap: Tap = no_tap,
    *,
    train: bool = False,
) -> Array:
    """The decoder's images; arguments as those of `networks.decode`."""
    if spec.upsampling is None:
        return sabour2017.decode(spec, arrays, masked_BJD)
    assert spec.decoder is not None
    x = masked_BJD.reshape(len(masked_BJD), -1)
    hidden = len(spec.decoder)
    for n in range(hidden):
        x = x @ arrays[f"decoder.{n}.kernel"] + arrays[f"decoder.{n}.bias"]
        # The last of them has no activation: it is an image already.
        x = x if n == hidden - 1 else relu(x)
    x = x.reshape(len(x), spec.side, spec.side, 1)
    last = hidden + len(spec.upsampling.channels)
    for n in range(hidden, last):
        x = conv(double_size(x), arrays[f"decoder.{n}.kernel"], 1) + arrays[f"decoder.{n}.bias"]
        x = leaky(x, spec.upsampling.slope)
    x = conv(x, arrays[f"decoder.{last}.kernel"], 1) + arrays[f"decoder.{last}.bias"]
    return sigmoid(x)
