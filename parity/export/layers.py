"""Layers of capsule networks as ONNX operators, from canonical arrays.

Axes: B batch, H W C a feature map, I input capsules, J output capsules, K size of an input pose,
D of an output pose, M the D of all J in a row.
"""

from typing import NamedTuple

import numpy as np

from parity.export.graph import Graph
from parity.spec import Window
from parity.weights import Arrays, transpose


class Capsules(NamedTuple):
    """Capsules by the names of their values: poses, None for none, and activations.

    Without activations they are as active as their poses are long.
    """

    poses: str | None
    activations: str | None = None


def own(g: Graph, arrays: Arrays, name: str) -> str:
    """A parameter as a constant of its own name."""
    return g.constant(arrays[name], name)


def nchw(g: Graph, x_BHWC: str) -> str:
    """A feature map as ONNX convolves it."""
    return g("Transpose", x_BHWC, perm=[0, 3, 1, 2])


def nhwc(g: Graph, x_BCHW: str) -> str:
    """A feature map as everything else here has it."""
    return g("Transpose", x_BCHW, perm=[0, 2, 3, 1])


def conv(g: Graph, x_BCHW: str, arrays: Arrays, name: str, stride: int, scale: float = 1.0) -> str:
    """A convolution without padding of an NCHW feature map.

    Args:
        g: The graph.
        x_BCHW: The feature map.
        arrays: With NAME.kernel and, where it has one, NAME.bias.
        name: Of the layer.
        stride: Pixels, in both directions.
        scale: Multiplies the convolution before the bias is added; the kernel takes it in.
    """
    kernel = arrays[f"{name}.kernel"].astype(float) * scale
    return _conv(g, x_BCHW, arrays, name, transpose(kernel, "kh kw in out", "out in kh kw"), stride)


def depthwise(g: Graph, x_BCHW: str, arrays: Arrays, name: str, stride: int) -> str:
    """A convolution of each channel by a filter of its own; arguments as those of `conv`."""
    kernel = transpose(arrays[f"{name}.kernel"], "kh kw out", "out kh kw")[:, None]
    return _conv(g, x_BCHW, arrays, name, kernel, stride, group=len(kernel))


def _conv(
    g: Graph, x_BCHW: str, arrays: Arrays, name: str, kernel: np.ndarray, stride: int, **how: int
) -> str:
    weights = [g.constant(kernel, f"{name}.kernel")]
    weights += [own(g, arrays, f"{name}.bias")] if f"{name}.bias" in arrays else []
    return g("Conv", x_BCHW, *weights, name=f"{name}.conv", strides=[stride, stride], **how)


def leaky(g: Graph, x: str, slope: float, name: str) -> str:
    """Leaky relu: x where it is above 0, else slope * x; relu for a slope of 0."""
    if slope == 0:
        return g("Relu", x, name=name)
    # LeakyRelu has its slope in float32 whatever the graph is in.
    return g("PRelu", x, [slope], name=name)


def sigmoid(g: Graph, x: str) -> str:
    """1 / (1 + exp(-x)), without overflow for x of either sign.

    Not Sigmoid, in which ONNX Runtime is off by 1e-7 absolutely: much of a small activation.
    """
    small = g("Exp", g("Neg", g("Abs", x)))
    return g("Div", g("Where", g("Greater", x, 0.0), 1.0, small), g("Add", small, 1.0))


def squash(g: Graph, x: str, name: str) -> str:
    """Shortens vectors along the last axis (Eq. 1): x * |x| / (1 + |x|^2), which is 0 at 0."""
    square = g("ReduceSum", g("Mul", x, x), [-1], keepdims=1)
    return g("Mul", x, g("Div", g("Sqrt", square), g("Add", square, 1.0)), name=name)


def exponential_squash(g: Graph, x: str, name: str) -> str:
    """Shortens vectors along the last axis: x (1 - exp(-|x|)) / |x| (Mazzia et al. 2021)."""
    length = g("Sqrt", g("ReduceSum", g("Mul", x, x), [-1], keepdims=1))
    length = g("Where", g("Equal", length, 0.0), 1.0, length)
    # 1 - exp(-n) = 2 t / (1 + t), t = tanh(n / 2), which keeps the digits of a small n.
    t = g("Tanh", g("Mul", length, 0.5))
    shortened = g("Div", g("Mul", t, 2.0), g("Add", t, 1.0))
    return g("Mul", x, g("Div", shortened, length), name=name)


def lengths(g: Graph, poses: str, name: str, epsilon: float = 0.0, offset: float = 0.0) -> str:
    """The length of each pose, epsilon under its root, offset in it: [..., D] -> [...]."""
    poses = g("Add", poses, offset) if offset else poses
    square = g("ReduceSum", g("Mul", poses, poses), [-1], keepdims=0)
    return g("Sqrt", g("Add", square, epsilon) if epsilon > 0 else square, name=name)


def padded(g: Graph, x_BHWC: str, around: int) -> str:
    """A map with `around` rows and columns of zeros on each side."""
    return g("Pad", x_BHWC, [0, around, around, 0] * 2) if around else x_BHWC


def windows(g: Graph, x: str, window: Window) -> str:
    """The windows of a map whose places are in a row, [B, H * W, ...].

    [B, parent places, places of a window, ...]
    """
    return g("Gather", x, g.constant(places(window), f"windows.{named(window)}"), axis=1)


def named(window: Window) -> str:
    """A window's sizes, for the names of its constants."""
    return ".".join(str(n) for n in (*window.grid, *window.kernel, window.stride))


def places(window: Window) -> np.ndarray:
    """The numbers of the places in each window: [parent places, places of a window]."""
    (height, width), (down, across) = window.places, window.kernel
    rows = np.arange(height)[:, None] * window.stride + np.arange(down)
    columns = np.arange(width)[:, None] * window.stride + np.arange(across)
    numbers = rows[:, None, :, None] * window.grid[1] + columns[None, :, None, :]
    return numbers.reshape(height * width, down * across)


def votes(g: Graph, poses_BIK: str, kernel_IJKD: np.ndarray, name: str = "digit") -> str:
    """The vote of each input capsule for each output capsule (Eq. 2): [B, J, D, I].

    In that order routing is products of matrices alone: of the orders tried it was the fastest.
    """
    capsules, outputs, length, size = kernel_IJKD.shape
    kernel_IKM = kernel_IJKD.transpose(0, 2, 1, 3).reshape(capsules, length, outputs * size)
    # One product for each input capsule, over the batch.
    poses_IBK = g("Transpose", poses_BIK, perm=[1, 0, 2])
    votes_IBM = g("MatMul", poses_IBK, g.constant(kernel_IKM, f"{name}.kernel"))
    votes_BMI = g("Transpose", votes_IBM, perm=[1, 2, 0])
    return g("Reshape", votes_BMI, [0, outputs, size, capsules], name=f"{name}.votes")


def matrix_votes(g: Graph, poses: str, kernel_LJPQ: np.ndarray, rows: int, name: str) -> str:
    """Votes of poses that are matrices: each times those of its child, [L, N, R, J, Q].

    Args:
        g: The graph.
        poses: Row by row, of children in order in each of N: [..., L, R * P] in the end.
        kernel_LJPQ: A matrix for each pair of a child and an output capsule.
        rows: R, of a pose.
        name: Of the layer.
    """
    children, outputs, columns, made = kernel_LJPQ.shape
    poses_NLRP = g("Reshape", poses, [-1, children, rows, columns])
    # One product for each child, over all of N and the rows of a pose.
    poses_LNRP = g("Transpose", poses_NLRP, perm=[1, 0, 2, 3])
    x_LXP = g("Reshape", poses_LNRP, [children, -1, columns])
    kernel_LPM = kernel_LJPQ.transpose(0, 2, 1, 3).reshape(children, columns, outputs * made)
    votes_LXM = g("MatMul", x_LXP, g.constant(kernel_LPM, f"{name}.kernel"))
    return g("Reshape", votes_LXM, [children, -1, rows, outputs, made])


def dense(g: Graph, x: str, arrays: Arrays, name: str, activation: str) -> str:
    """A dense layer over the last axis, and an operator that is its activation."""
    product = g("MatMul", x, own(g, arrays, f"{name}.kernel"))
    return g(activation, g("Add", product, own(g, arrays, f"{name}.bias")), name=name)
