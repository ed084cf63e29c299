"""The network of 2017 as ONNX operators (Sabour, Frosst, Hinton 2017, figures 1 and 2).

Axes: B batch, I input capsules, J classes, K size of an input pose, D of an output pose, P classes
asked for, H W C image.
"""

from parity.export.graph import Graph
from parity.export.layers import conv, dense, lengths, squash, votes
from parity.export.routing import GRAPHS
from parity.spec import NetworkSpec
from parity.weights import Arrays


def encode(g: Graph, spec: NetworkSpec, arrays: Arrays, images_BHWC: str) -> str:
    """The class capsules [B, J, D] of images (figure 1)."""
    x_BCHW = g("Transpose", images_BHWC, perm=[0, 3, 1, 2])
    for n, layer in enumerate(spec.stem):
        x_BCHW = conv(g, x_BCHW, arrays, f"stem.{n}", layer.stride)
        x_BCHW = g("Relu", x_BCHW, name=f"stem.{n}")
    first = spec.primary
    x_BCHW = conv(g, x_BCHW, arrays, "primary", first.stride, first.scale)
    # Capsules in (height, width, type) order: a channel is type * size + component.
    x_BHWC = g("Transpose", x_BCHW, perm=[0, 2, 3, 1])
    poses_BIK = g("Reshape", x_BHWC, [0, spec.num_inputs, first.size])
    poses_BIK = squash(g, poses_BIK, "primary.poses")
    votes_BJDI = votes(g, poses_BIK, arrays["digit.kernel"])
    return GRAPHS[spec.routing.name](g, votes_BJDI, spec.routing, arrays, spec.classes)


def scores(g: Graph, spec: NetworkSpec, poses_BJD: str) -> str:
    """What ranks the classes, [B, J]: the lengths of their capsules."""
    return lengths(g, poses_BJD, "scores")


def decode(g: Graph, spec: NetworkSpec, arrays: Arrays, masked: str) -> str:
    """Images in 0 to 1 of class capsules in a row, all but one of them 0 (figure 2).

    [B, J * D] -> [B, H * W * C], and the same with a P after the B.
    """
    assert spec.decoder is not None
    for n in range(len(spec.decoder) + 1):
        activation = "Sigmoid" if n == len(spec.decoder) else "Relu"
        masked = dense(g, masked, arrays, f"decoder.{n}", activation)
    return masked
