"""Matrix capsules as ONNX operators (Hinton, Sabour, Frosst 2018, figure 1).

Axes: B batch, P parent places, M places of a window, T types of children, I = M T, J output
capsules, K D size of a pose, R rows of a pose and Q its columns, H W C image or feature map, X its
places in a row.
"""

import math
from dataclasses import replace

import numpy as np

from parity.export.graph import Graph
from parity.export.layers import Capsules, conv, matrix_votes, nchw, nhwc, sigmoid, windows
from parity.export.networks.efficient import standardised
from parity.export.routing import GRAPHS
from parity.reference.networks.matrix import EPSILON, coordinates
from parity.spec import Hinton2018
from parity.spec.networks.matrix import Matrix
from parity.weights import Arrays


def encode(g: Graph, spec: Hinton2018, arrays: Arrays, images_BHWC: str) -> Capsules:
    """The class capsules of images: poses [B, J, D] and activations [B, J]."""
    x_BCHW = standardised(g, spec.pixels, EPSILON, nchw(g, images_BHWC))
    for n, layer in enumerate(spec.stem):
        x_BCHW = conv(g, x_BCHW, arrays, f"stem.{n}", layer.stride)
        x_BCHW = g("Relu", x_BCHW, name=f"stem.{n}")
    first, places = spec.primary, math.prod(spec.grid)
    logits_BCHW = conv(g, x_BCHW, arrays, "activation", first.stride)
    active = nhwc(g, sigmoid(g, g("Add", logits_BCHW, spec.offset)))
    # Capsules in (height, width, type) order: a channel is type * size + component.
    x_BHWC = nhwc(g, conv(g, x_BCHW, arrays, "primary", first.stride))
    poses = g("Reshape", x_BHWC, [0, places, first.types, first.size])
    active = g("Reshape", active, [0, places, first.types])
    for n in range(len(spec.capsules) + 1):
        poses, active = capsule_layer(g, spec, arrays, n, poses, active)
    return Capsules(*(g("Squeeze", each, [1]) for each in (poses, active)))


def capsule_layer(
    g: Graph, spec: Matrix, arrays: Arrays, number: int, poses_BXTK: str, active_BXT: str
) -> tuple[str, str]:
    """The parents: poses [B, P, J, D] and activations [B, P, J], or logits of these.

    Args:
        g: The graph.
        spec: Of the network.
        arrays: The parameters by their canonical names.
        number: Of the layer; the last is that of the classes.
        poses_BXTK: Of the children.
        active_BXT: Their activations.
    """
    name, window = f"capsule.{number}", spec.windows[number]
    last, kernel = number == len(spec.capsules), arrays[f"capsule.{number}.kernel"]
    parents, seen = math.prod(window.places), math.prod(window.kernel)
    poses_BPMTK, active_BPMT = (windows(g, each, window) for each in (poses_BXTK, active_BXT))
    types, outputs = kernel.shape[-4:-2]
    # The classes may have one matrix for all places of their window.
    shared = last and spec.shared
    kernel = kernel.reshape(-1, *kernel.shape[-3:])
    votes_LNRJQ = matrix_votes(g, poses_BPMTK, kernel, spec.side, name)
    if shared:  # a matrix for each type: N is B M
        shape, perm = [types, -1, seen, spec.side, outputs, spec.side], [1, 4, 2, 0, 3, 5]
    else:  # for each child: N is B P
        shape, perm = [seen * types, -1, parents, spec.side, outputs, spec.side], [1, 2, 4, 0, 3, 5]
    votes = g("Transpose", g("Reshape", votes_LNRJQ, shape), perm=perm)
    votes_BPJID = g("Reshape", votes, [-1, parents, outputs, seen * types, spec.side**2])
    if last and spec.coordinates:
        added_ID = np.repeat(coordinates(spec).reshape(seen, -1), types, axis=0)
        votes_BPJID = g("Add", votes_BPJID, g.constant(added_ID, "coordinates"))
    active_BPI = g("Reshape", active_BPMT, [0, parents, seen * types])
    rule = replace(spec.routing, **spec.class_options) if last else spec.routing
    where = None if last else window
    return GRAPHS[rule.name](g, votes_BPJID, active_BPI, rule, arrays, name, where)
