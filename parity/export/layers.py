"""Layers of capsule networks as ONNX operators, from canonical arrays.

Axes: B batch, H W C a feature map, I input capsules, J output capsules, K size of an input pose,
D of an output pose, M the D of all J in a row.
"""

import numpy as np

from parity.export.graph import Graph
from parity.weights import Arrays, transpose


def own(g: Graph, arrays: Arrays, name: str) -> str:
    """A parameter as a constant of its own name."""
    return g.constant(arrays[name], name)


def conv(g: Graph, x_BCHW: str, arrays: Arrays, name: str, stride: int, scale: float = 1.0) -> str:
    """A convolution without padding of an NCHW feature map, as ONNX has them.

    Args:
        g: The graph.
        x_BCHW: The feature map.
        arrays: With NAME.kernel and NAME.bias.
        name: Of the layer.
        stride: Pixels, in both directions.
        scale: Multiplies the convolution before the bias is added; the kernel takes it in.
    """
    kernel = transpose(
        arrays[f"{name}.kernel"].astype(float) * scale, "kh kw in out", "out in kh kw"
    )
    weights = g.constant(kernel, f"{name}.kernel"), own(g, arrays, f"{name}.bias")
    return g("Conv", x_BCHW, *weights, name=f"{name}.conv", strides=[stride, stride])


def squash(g: Graph, x: str, name: str) -> str:
    """Shortens vectors along the last axis (Eq. 1): x * |x| / (1 + |x|^2), which is 0 at 0."""
    square = g("ReduceSum", g("Mul", x, x), [-1], keepdims=1)
    return g("Mul", x, g("Div", g("Sqrt", square), g("Add", square, 1.0)), name=name)


def lengths(g: Graph, poses: str, name: str) -> str:
    """The length of each pose: [..., D] -> [...]."""
    return g("Sqrt", g("ReduceSum", g("Mul", poses, poses), [-1], keepdims=0), name=name)


def votes(g: Graph, poses_BIK: str, kernel_IJKD: np.ndarray) -> str:
    """The vote of each input capsule for each output capsule (Eq. 2): [B, J, D, I].

    In that order routing is products of matrices alone: of the orders tried it was the fastest.
    """
    capsules, outputs, length, size = kernel_IJKD.shape
    kernel_IKM = kernel_IJKD.transpose(0, 2, 1, 3).reshape(capsules, length, outputs * size)
    # One product for each input capsule, over the batch.
    poses_IBK = g("Transpose", poses_BIK, perm=[1, 0, 2])
    votes_IBM = g("MatMul", poses_IBK, g.constant(kernel_IKM, "digit.kernel"))
    votes_BMI = g("Transpose", votes_IBM, perm=[1, 2, 0])
    return g("Reshape", votes_BMI, [0, outputs, size, capsules], name="votes")


def dense(g: Graph, x: str, arrays: Arrays, name: str, activation: str) -> str:
    """A dense layer over the last axis, and an operator that is its activation."""
    product = g("MatMul", x, own(g, arrays, f"{name}.kernel"))
    return g(activation, g("Add", product, own(g, arrays, f"{name}.bias")), name=name)
