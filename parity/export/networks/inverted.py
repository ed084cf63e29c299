"""Capsules with inverted attention as ONNX operators (Tsai et al. 2020, their own code).

Axes: B batch, N windows of all images, P places of a grid, M places of a window, I types of
children, L = M I, J output capsules, K size of an input pose, D of an output pose, R rows of a pose
that is a matrix and Q its columns, H W C image.
"""

import math

from parity.export.graph import Graph
from parity.export.layers import Capsules, matrix_votes, nhwc, windows
from parity.export.networks.residual import conv, features
from parity.export.routing import inverted_attention
from parity.reference.networks.inverted import iterated
from parity.spec import Tsai2020
from parity.spec.networks.inverted import POSES
from parity.weights import Arrays


def encode(g: Graph, spec: Tsai2020, arrays: Arrays, images_BHWC: str) -> Capsules:
    """The class capsules of images: poses [B, J, D] and activations [B, J]."""
    x_BCHW, first = features(g, spec, arrays, images_BHWC), spec.primary
    x_BHWC = nhwc(g, conv(g, x_BCHW, arrays, "primary", first.stride))
    # Capsules in (height, width, type) order: a channel is type * size + component.
    shape = [-1, math.prod(spec.grid), first.types, first.size]
    poses_BPIK = normalised(g, g("Reshape", x_BHWC, shape), arrays, "primary")

    def read(n: int, t: int, below_BPIK: str) -> str:
        return _votes(g, spec, arrays, n, below_BPIK)

    def step(n: int, t: int, votes_NJDL: str, before: str | None) -> str:
        outputs = [spec.types[n + 1], spec.sizes[n + 1]]
        before_NJD = None if before is None else g("Reshape", before, [-1, *outputs])
        sum_NJD = inverted_attention(g, votes_NJDL, before_NJD, *outputs)
        sum_BPJD = g("Reshape", sum_NJD, [-1, math.prod(spec.windows[n].places), *outputs])
        return normalised(g, sum_BPJD, arrays, f"capsule.{n}")

    poses_BJD = g("Squeeze", iterated(spec, poses_BPIK, read, step), [1])
    # The activations are a softmax of one map of the poses.
    kernel, bias = (g.constant(arrays[f"head.{x}"], f"head.{x}") for x in ("kernel", "bias"))
    logits_BJ1 = g("Add", g("MatMul", poses_BJD, kernel), bias)
    activations_BJ = g("Softmax", g("Squeeze", logits_BJ1, [2], name="logits"), axis=1)
    return Capsules(poses_BJD, activations_BJ)


def normalised(g: Graph, poses: str, arrays: Arrays, name: str) -> str:
    """Each pose [..., D] normalised over its own numbers; one of one number stays."""
    if f"{name}.norm.scale" not in arrays:
        return poses
    apart = g("Sub", poses, g("ReduceMean", poses, axes=[-1], keepdims=1))
    variance = g("ReduceMean", g("Mul", apart, apart), axes=[-1], keepdims=1)
    y = g("Div", apart, g("Sqrt", g("Add", variance, POSES.epsilon)))
    own = (g.constant(arrays[f"{name}.norm.{x}"], f"{name}.norm.{x}") for x in ("scale", "shift"))
    return g("Add", g("Mul", y, next(own)), next(own))


def _votes(g: Graph, spec: Tsai2020, arrays: Arrays, number: int, poses_BPIK: str) -> str:
    """The votes of a layer's windows, [N, J, D, L]."""
    window, (types, size) = spec.windows[number], (spec.types[number], spec.sizes[number])
    kernel = arrays[f"capsule.{number}.kernel"]
    kernel_LJKQ = kernel.reshape(-1, *kernel.shape[3:])
    children, outputs, columns, made = kernel_LJKQ.shape
    rows, places = size // columns, math.prod(window.places)
    shown = windows(g, poses_BPIK, window)  # [B, P, M, I, K]
    if spec.released:
        x_BMIKP = g("Transpose", shown, perm=[0, 2, 3, 4, 1])
        read_BMIPK = g("Reshape", x_BMIKP, [-1, children // types, types, places, size])
        shown = g("Transpose", read_BMIPK, perm=[0, 3, 1, 2, 4])
    votes_LNRJQ = matrix_votes(g, shown, kernel_LJKQ, rows, f"capsule.{number}")
    votes_NJRQL = g("Transpose", votes_LNRJQ, perm=[1, 3, 2, 4, 0])
    return g("Reshape", votes_NJRQL, [-1, outputs, rows * made, children])
