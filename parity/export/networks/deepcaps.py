"""DeepCaps as ONNX operators (Rajasegaran et al. 2019, their own code).

Evaluation: a batch norm takes its running numbers. Between layers a cell's capsules are an NCHW
feature map, whose channel is type * size + component.

Axes: B batch, I types of children or input capsules, J types of parents or classes, K size of an
input pose, D of an output pose, Y X a grid, P = Y X in a row, H W C image or feature map.
"""

import math

import numpy as np

from parity.export.graph import Graph
from parity.export.layers import Capsules, dense, nchw, nhwc, own, squash, votes
from parity.export.networks.efficient import normal
from parity.export.routing import GRAPHS
from parity.spec import CapsuleLayer, Dynamic3D, Rajasegaran2019
from parity.spec.convolution import same_padding, transposed_cut
from parity.weights import Arrays, transpose

EPSILON = 1e-7  # Keras' own, in the squash of capsules that are not routed


def encode(g: Graph, spec: Rajasegaran2019, arrays: Arrays, images_BHWC: str) -> Capsules:
    """The class capsules of images, poses [B, J, D]."""
    x_BCHW, grid = nchw(g, images_BHWC), spec.image[:2]
    for n, layer in enumerate(spec.stem):
        name = f"stem.{n}"
        x_BCHW = _conv(g, x_BCHW, arrays, name, grid, layer.stride, bias=True)
        grid = _after(grid, layer.stride)
        # The authors normalise what relu has left.
        for what in ("norm", "activation") if spec.norm.first else ("activation", "norm"):
            if what == "norm":
                x_BCHW = normal(g, spec.norm, arrays, x_BCHW, f"{name}.norm")
            else:
                x_BCHW = g("Relu", x_BCHW, name=f"{name}.activation")
    seen = []
    for n, layer in enumerate(spec.capsules):
        x_BCHW = _cell(g, spec, arrays, x_BCHW, n, grid)
        grid = _after(grid, layer.stride)
        seen.append(g("Reshape", nhwc(g, x_BCHW), [0, math.prod(grid) * layer.types, layer.size]))
    # The classes see the last cell's capsules, then those of the one before.
    inputs_BIK = g("Concat", *seen[:-3:-1], axis=1, name="primary.poses")
    votes_BJDI = votes(g, inputs_BIK, arrays["digit.kernel"])
    return Capsules(GRAPHS[spec.routing.name](g, votes_BJDI, spec.routing, arrays, spec.classes))


def _after(grid: tuple[int, int], stride: int) -> tuple[int, int]:
    return -(-grid[0] // stride), -(-grid[1] // stride)


def _conv(
    g: Graph,
    x_BCHW: str,
    arrays: Arrays,
    name: str,
    grid: tuple[int, int],
    stride: int,
    bias: bool = False,
) -> str:
    """A convolution with TensorFlow's padding 'same', of a map of this grid."""
    kernel = transpose(arrays[f"{name}.kernel"], "kh kw in out", "out in kh kw")
    (top, bottom), (left, right) = (same_padding(size, kernel.shape[2], stride) for size in grid)
    weights = [g.constant(kernel, f"{name}.kernel")]
    weights += [own(g, arrays, f"{name}.bias")] if bias else []
    how = {"strides": [stride, stride], "pads": [top, left, bottom, right]}
    return g("Conv", x_BCHW, *weights, name=f"{name}.conv", **how)


def _cell(
    g: Graph,
    spec: Rajasegaran2019,
    arrays: Arrays,
    x_BCHW: str,
    number: int,
    grid: tuple[int, int],
) -> str:
    """A cell's capsules as a feature map."""
    name, layer = f"cell.{number}", spec.capsules[number]
    after = _after(grid, layer.stride)
    shape = [0, layer.types, layer.size, *after]
    flat = [0, layer.types * layer.size, *after]

    def capsules(x: str, which: str, grid: tuple[int, int], stride: int = 1) -> str:
        """A convolution to capsules, squashed over their components."""
        x = g("Reshape", _conv(g, x, arrays, f"{name}.{which}", grid, stride), shape)
        square = g("ReduceSum", g("Mul", x, x), [2], keepdims=1)
        length = g("Sqrt", g("Add", square, EPSILON))
        scale = g("Div", g("Div", square, g("Add", square, 1.0)), length)
        return g("Reshape", g("Mul", x, scale), flat)

    u = capsules(x_BCHW, "caps.0", grid, layer.stride)
    if number == len(spec.capsules) - 1:
        skip = g("Reshape", _routed(g, spec, arrays, u, f"{name}.skip", after), flat)
    else:
        skip = capsules(u, "skip", after)
    y = capsules(capsules(u, "caps.1", after), "caps.2", after)
    return g("Add", y, skip, name=name)


def _routed(
    g: Graph,
    spec: Rajasegaran2019,
    arrays: Arrays,
    u_BCHW: str,
    name: str,
    grid: tuple[int, int],
) -> str:
    """3-D routing over a whole grid: [B, J, D, P]."""
    routing, layer, places = spec.skip, spec.capsules[-1], math.prod(grid)
    assert isinstance(routing, Dynamic3D)
    # The authors read the memory [H, W, I, K] as [I, K, H, W].
    children = nhwc(g, u_BCHW) if routing.released else u_BCHW
    children = g("Reshape", children, [-1, layer.size, *grid])
    votes = _conv(g, children, arrays, name, grid, 1)
    votes_BIJDP = g("Reshape", votes, [-1, layer.types, layer.types, layer.size, places])
    bias = arrays[f"{name}.bias"][:, :, None] if routing.bias else None
    total_BJDP = poses_BJDP = ""
    for t in range(routing.num_iters):
        if t == 0:  # every routing coefficient is the same
            sum_BJDP = g("ReduceSum", votes_BIJDP, [1], keepdims=0)
            sum_BJDP = g("Div", sum_BJDP, float(layer.types * places))
        else:
            # A logit is the vote times the sum of all earlier poses.
            total_BJDP = poses_BJDP if t == 1 else g("Add", total_BJDP, poses_BJDP)
            agreement = g("Mul", votes_BIJDP, g("Unsqueeze", total_BJDP, [1]))
            logits_BIJP = g("ReduceSum", agreement, [3], keepdims=0)
            flat = g("Reshape", logits_BIJP, [0, 0, layer.types * places])
            coupling = g("Softmax", flat, axis=2)
            coupling = g("Reshape", coupling, [0, 0, layer.types, 1, places])
            sum_BJDP = g("ReduceSum", g("Mul", votes_BIJDP, coupling), [1], keepdims=0)
        if bias is not None:
            sum_BJDP = g("Add", sum_BJDP, g.constant(bias, f"{name}.bias"))
        poses_BJDP = _squash(g, sum_BJDP, layer, places, routing.released)
    return poses_BJDP


def _squash(g: Graph, x_BJDP: str, layer: CapsuleLayer, places: int, whole: bool) -> str:
    """The squash over D, or over D and P together."""
    if whole:
        x_BJM = g("Reshape", x_BJDP, [0, 0, layer.size * places])
        return g("Reshape", squash(g, x_BJM, ""), [0, 0, layer.size, places])
    x_BJPD = g("Transpose", x_BJDP, perm=[0, 1, 3, 2])
    return g("Transpose", squash(g, x_BJPD, ""), perm=[0, 1, 3, 2])


def decode(g: Graph, spec: Rajasegaran2019, arrays: Arrays, masked: str) -> str:
    """Images of class capsules in a row, all but one of them 0: of the one that is left.

    [B, J * D] -> [B, H, W, C]; B is B * P there for [B, P, J * D].
    """
    assert spec.decoder is not None
    x, up, last = g("Reshape", masked, [-1, spec.classes, spec.pose]), spec.upsampling, ""
    x = g("ReduceSum", x, [1], keepdims=0)
    for n in range(len(spec.decoder)):
        last = f"decoder.{n}"
        x = dense(g, x, arrays, last, "Relu")
    x_BCHW = nchw(g, g("Reshape", x, [-1, *spec.side, spec.depth]))
    x_BCHW = normal(g, up.norm, arrays, x_BCHW, f"{last}.norm")
    for n, stride in enumerate(up.strides, len(spec.decoder)):
        x_BCHW = _transposed(g, x_BCHW, arrays, f"decoder.{n}", stride)
    return nhwc(g, g("Relu", x_BCHW))


def _transposed(g: Graph, x_BCHW: str, arrays: Arrays, name: str, stride: int) -> str:
    kernel = transpose(arrays[f"{name}.kernel"], "kh kw in out", "in out kh kw")
    first, last = transposed_cut(1, kernel.shape[2], stride)
    begin, end = first, kernel.shape[2] - last
    weights = (
        g.constant(np.ascontiguousarray(kernel), f"{name}.kernel"),
        own(g, arrays, f"{name}.bias"),
    )
    how = {"strides": [stride, stride], "pads": [begin, begin, end, end]}
    return g("ConvTranspose", x_BCHW, *weights, name=name, **how)
