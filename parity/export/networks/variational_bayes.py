"""Matrix capsules with variational Bayes routing as ONNX operators (Ribeiro et al. 2020).

Evaluation: a batch norm takes its running numbers.

Axes: B batch, P places of a grid, J output capsules, D size of a pose, H W C image or feature map.
"""

import math

from parity.export.graph import Graph
from parity.export.layers import Capsules, conv, nchw, nhwc, sigmoid
from parity.export.networks.efficient import normal, standardised
from parity.export.networks.matrix import capsule_layer
from parity.spec import Ribeiro2020
from parity.weights import Arrays


def encode(g: Graph, spec: Ribeiro2020, arrays: Arrays, images_BHWC: str) -> Capsules:
    """The class capsules of images: poses [B, J, D] and activations [B, J]."""

    def normed(x: str, name: str, *beside: int) -> str:
        return normal(g, spec.norm, arrays, x, name, (-1, *beside))

    x_BCHW = standardised(g, spec.pixels, spec.norm.epsilon, nchw(g, images_BHWC))
    for n, layer in enumerate(spec.stem):
        x_BCHW = conv(g, x_BCHW, arrays, f"stem.{n}", layer.stride)
        x_BCHW = g("Relu", normed(x_BCHW, f"stem.{n}.norm", 1, 1), name=f"stem.{n}.activation")
    first, places = spec.primary, math.prod(spec.grid)
    logits_BCHW = conv(g, x_BCHW, arrays, "activation", first.stride)
    active = sigmoid(g, nhwc(g, normed(logits_BCHW, "activation.norm", 1, 1)))
    active = g("Reshape", active, [0, places, first.types])
    # Capsules in (height, width, type) order: a channel is type * size + component.
    x_BHWC = nhwc(g, conv(g, x_BCHW, arrays, "primary", first.stride))
    poses = g("Reshape", x_BHWC, [0, places, first.types, first.size])
    poses = normed(poses, "primary.norm", 1)
    for n in range(len(spec.capsules) + 1):
        # Of poses a norm takes a type over all images, places and components.
        means_BPJD, logits_BPJ = capsule_layer(g, spec, arrays, n, poses, active)
        poses = normed(means_BPJD, f"capsule.{n}.norm", 1)
        active = sigmoid(g, normed(logits_BPJ, f"capsule.{n}.activation.norm"))
    return Capsules(*(g("Squeeze", each, [1]) for each in (poses, active)))
