"""The residual networks before capsules, forward (He et al. 2016).

Axes: B batch, H W C image or feature map.
"""

from collections.abc import Mapping

import numpy as np

from parity.reference.arrays import Array, double, relu
from parity.reference.capsules import Tap
from parity.reference.convolution import conv, padded
from parity.reference.networks.efficient import normal, standardised
from parity.spec import Block, Conv, Primary, Residual


def features(spec: Residual, arrays: Mapping[str, Array], images, tap: Tap, train: bool) -> Array:
    """What stem and blocks make of images; arguments as those of `networks.encode`."""
    x = tap("pixels", standardised(tap("image", double(images)), spec.pixels, spec.epsilon))
    for n, layer in enumerate(spec.stem):
        name = f"stem.{n}"
        if spec.norm is None:
            x = conv(padded(x, layer.kernel // 2), arrays[f"{name}.kernel"], layer.stride)
            x = tap(name, relu(x + arrays[f"{name}.bias"]))
        else:
            x = tap(f"{name}.activation", relu(convolved(spec, arrays, x, name, layer, tap, train)))
    for n, block in enumerate(spec.blocks):
        name, how = f"block.{n}", (tap, train)
        first, second = Conv(block.channels, 3, block.stride), Conv(block.channels, 3)
        y = relu(convolved(spec, arrays, x, f"{name}.conv.0", first, *how))
        y = tap(f"{name}.conv.0.activation", y)
        y = convolved(spec, arrays, y, f"{name}.conv.1", second, *how)
        if block.projected:
            short = Conv(block.channels, 1, block.stride)
            x = convolved(spec, arrays, x, f"{name}.shortcut", short, *how)
        else:
            x = shortcut(x, block)
        x = tap(name, relu(y + x))
    return x


def convolved(
    spec: Residual,
    arrays: Mapping[str, Array],
    x_BHWC: Array,
    name: str,
    layer: Conv | Primary,
    tap: Tap,
    train: bool,
) -> Array:
    """A convolution without bias, padded by half its kernel, normalised."""
    assert spec.norm is not None
    x = conv(padded(x_BHWC, layer.kernel // 2), arrays[f"{name}.kernel"], layer.stride)
    return normal(spec.norm, arrays, tap(f"{name}.conv", x), f"{name}.norm", tap, train)


def shortcut(x_BHWC: Array, block: Block) -> Array:
    """Every stride-th pixel, and the missing channels as zeros, half before and half after."""
    x_BHWC = x_BHWC[:, :: block.stride, :: block.stride]
    missing = block.channels - x_BHWC.shape[3]
    sides = [(0, 0)] * 3 + [(missing // 2, missing - missing // 2)]
    return np.pad(x_BHWC, sides)
