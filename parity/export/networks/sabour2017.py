"""The network of 2017 as ONNX operators (Sabour, Frosst, Hinton 2017, figures 1 and 2).

Axes: B batch, I input capsules, J classes, K size of an input pose, D of an output pose, P classes
asked for, H W C image.
"""

from parity.export.graph import Graph
from parity.export.layers import Capsules, conv, dense, nchw, nhwc, squash, votes
from parity.export.routing import GRAPHS
from parity.spec import Sabour2017
from parity.weights import Arrays


def encode(g: Graph, spec: Sabour2017, arrays: Arrays, images_BHWC: str) -> Capsules:
    """The class capsules of images, poses [B, J, D] (figure 1)."""
    x_BCHW = nchw(g, images_BHWC)
    for n, layer in enumerate(spec.stem):
        x_BCHW = conv(g, x_BCHW, arrays, f"stem.{n}", layer.stride)
        x_BCHW = g("Relu", x_BCHW, name=f"stem.{n}")
    first = spec.primary
    x_BCHW = conv(g, x_BCHW, arrays, "primary", first.stride, first.scale)
    # Capsules in (height, width, type) order: a channel is type * size + component.
    poses_BIK = g("Reshape", nhwc(g, x_BCHW), [0, spec.num_inputs, first.size])
    poses_BIK = squash(g, poses_BIK, "primary.poses")
    votes_BJDI = votes(g, poses_BIK, arrays["digit.kernel"])
    return Capsules(GRAPHS[spec.routing.name](g, votes_BJDI, spec.routing, arrays, spec.classes))


def decode(g: Graph, spec: Sabour2017, arrays: Arrays, masked: str) -> str:
    """Images in 0 to 1 of class capsules in a row, all but one of them 0 (figure 2).

    [B, J * D] -> [B, H * W * C], and the same with a P after the B.
    """
    assert spec.decoder is not None
    for n in range(len(spec.decoder) + 1):
        activation = "Sigmoid" if n == len(spec.decoder) else "Relu"
        masked = dense(g, masked, arrays, f"decoder.{n}", activation)
    return masked
