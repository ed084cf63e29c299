"""Self-routing capsules on a residual network as ONNX operators (Hahn, Pyeon, Kim 2019).

Evaluation: a batch norm takes its running numbers. Between layers poses are a feature map, whose
channel is type * size + component, and activations another.

Axes: B batch, N windows of all images, T types of children, I input capsules of a window, J output
capsules, K size of an input pose, D of an output pose, H W C image or feature map.
"""

import math

from parity.export.graph import Graph
from parity.export.layers import Capsules, nchw, nhwc, padded, sigmoid, votes, windows
from parity.export.networks.efficient import normal
from parity.export.networks.residual import convolved, features
from parity.export.routing import GRAPHS
from parity.spec import Hahn2019
from parity.weights import Arrays


def encode(g: Graph, spec: Hahn2019, arrays: Arrays, images_BHWC: str) -> Capsules:
    """The class capsules of images: activations [B, J], and no poses."""
    x_BCHW, first = features(g, spec, arrays, images_BHWC), spec.primary
    # No relu and no squash on poses.
    active = sigmoid(g, convolved(g, spec, arrays, x_BCHW, "activation", first.stride))
    poses = nhwc(g, convolved(g, spec, arrays, x_BCHW, "primary", first.stride))
    active, types, size = nhwc(g, active), first.types, first.size
    for n, layer in enumerate(spec.capsules):
        around = layer.kernel // 2
        maps = padded(g, poses, around), padded(g, active, around)
        found, grid = _layer(g, spec, arrays, n, *maps, types, size), spec.windows[n].places
        assert found.poses is not None
        types, size = layer.types, layer.size
        x_BHWC = g("Reshape", found.poses, [-1, *grid, types * size])
        x_BCHW = normal(g, spec.norm, arrays, nchw(g, x_BHWC), f"capsule.{n}.norm")
        poses, active = nhwc(g, x_BCHW), g("Reshape", found.activations, [-1, *grid, types])
    return _layer(g, spec, arrays, len(spec.capsules), poses, active, types, size)


def _layer(
    g: Graph,
    spec: Hahn2019,
    arrays: Arrays,
    number: int,
    poses_BHWC: str,
    active_BHWT: str,
    types: int,
    size: int,
) -> Capsules:
    """The parents of each window, [N, J]: without poses where the layer has no kernel of votes."""
    name, window = f"capsule.{number}", spec.windows[number]
    count = math.prod(window.kernel) * types
    maps, flat = (poses_BHWC, active_BHWT), [0, math.prod(window.grid), -1]
    poses, active = (windows(g, g("Reshape", each, flat), window) for each in maps)
    poses_NIK = g("Reshape", poses, [-1, count, size])
    activations_NI = g("Reshape", active, [-1, count])
    route, bias = (arrays[f"{name}.route.{each}"] for each in ("kernel", "bias"))
    # A logit is a vote of one number.
    logits_NJ1I = votes(g, poses_NIK, route.reshape(count, -1, size)[..., None], f"{name}.route")
    bias_J1I = g.constant(bias.reshape(count, -1).T[:, None], f"{name}.route.bias")
    logits_NJ1I, votes_NJDI = g("Add", logits_NJ1I, bias_J1I), None
    if f"{name}.kernel" in arrays:
        kernel = arrays[f"{name}.kernel"]
        votes_NJDI = votes(g, poses_NIK, kernel.reshape(count, *kernel.shape[3:]), name)
    return GRAPHS[spec.routing.name](g, votes_NJDI, activations_NI, logits_NJ1I)
