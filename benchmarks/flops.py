"""Multiplications and additions of a training step, counted from the spec.

What the mathematics asks for, not what an implementation does: lean routing, which computes the
votes several times, is credited with them once. Only products are counted; relu, squash, softmax
and the optimiser are a hundredth of them.
"""

import math
from itertools import pairwise

from parity.spec import NetworkSpec

Counts = dict[str, float]


def forward(spec: NetworkSpec, batch: int) -> Counts:
    """Of a forward pass: {"stem.0": ..., "primary": ..., "digit": ..., "decoder": ...}."""
    counts: Counts = {}
    height, width, channels = spec.image
    layers = [
        *((f"stem.{n}", conv.channels, conv) for n, conv in enumerate(spec.stem)),
        ("primary", spec.primary.channels, spec.primary),
    ]
    for name, out, conv in layers:
        height = (height - conv.kernel) // conv.stride + 1
        width = (width - conv.kernel) // conv.stride + 1
        counts[name] = 2.0 * batch * height * width * out * channels * conv.kernel**2
        channels = out
    counts["digit"] = digit(spec, batch, spec.num_inputs, spec.routing.options["num_iters"])
    if spec.decoder is not None:
        widths = [spec.classes * spec.pose, *spec.decoder, math.prod(spec.image)]
        counts["decoder"] = sum(2.0 * batch * a * b for a, b in pairwise(widths))
    return counts


def digit(spec: NetworkSpec, batch: int, inputs: int, num_iters: int) -> float:
    """Of the digit layer's forward pass: the votes, r weighted sums, r - 1 agreements."""
    votes = batch * inputs * spec.classes * spec.pose
    return 2.0 * votes * (spec.primary.size + 2 * num_iters - 1)


def step(spec: NetworkSpec, batch: int) -> Counts:
    """Of forward and backward: each product costs two more for the gradients of its two sides.

    The first layer's costs one, as nobody asks for the gradient of the images.
    """
    counts = forward(spec, batch)
    first = next(iter(counts))
    return {name: count * (2 if name == first else 3) for name, count in counts.items()}
