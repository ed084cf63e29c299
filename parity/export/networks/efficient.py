"""Efficient-CapsNet as ONNX operators (Mazzia, Salvetti, Chiaberge 2021, their own code).

Evaluation: a batch norm takes its running numbers.

Axes: B batch, I input capsules, J classes, K size of an input pose, D of an output pose, P classes
asked for, H W C image.
"""

import numpy as np

from parity.export.graph import Graph
from parity.export.layers import (
    Capsules,
    conv,
    dense,
    depthwise,
    exponential_squash,
    leaky,
    nchw,
    nhwc,
    votes,
)
from parity.export.routing import GRAPHS
from parity.spec import Efficient, Norm, Pixels
from parity.weights import Arrays


def encode(g: Graph, spec: Efficient, arrays: Arrays, images_BHWC: str) -> Capsules:
    """The class capsules of images, poses [B, J, D]."""
    x_BCHW = standardised(g, spec.pixels, spec.norm.epsilon, nchw(g, images_BHWC))
    for n, layer in enumerate(spec.stem):
        x_BCHW = conv(g, x_BCHW, arrays, f"stem.{n}", layer.stride)
        # The authors normalise what relu has left.
        for what in ("norm", "activation") if spec.norm.first else ("activation", "norm"):
            if what == "norm":
                x_BCHW = normal(g, spec.norm, arrays, x_BCHW, f"stem.{n}.norm")
            else:
                x_BCHW = leaky(g, x_BCHW, spec.slope, f"stem.{n}.activation")
    x_BCHW = depthwise(g, x_BCHW, arrays, "primary", spec.primary.stride)
    # Capsules in (height, width, type) order: a channel is type * size + component.
    poses_BIK = g("Reshape", nhwc(g, x_BCHW), [0, spec.num_inputs, spec.primary.size])
    poses_BIK = exponential_squash(g, poses_BIK, "primary.poses")
    votes_BJDI = votes(g, poses_BIK, arrays["digit.kernel"])
    return Capsules(GRAPHS[spec.routing.name](g, votes_BJDI, spec.routing, arrays, spec.classes))


def standardised(g: Graph, pixels: Pixels, epsilon: float, x_BCHW: str) -> str:
    """The network's first layer; without a constant that changes nothing."""
    if any(pixels.mean):
        x_BCHW = g("Sub", x_BCHW, g.constant(_wide(np.array(pixels.mean)), "pixels.mean"))
    if set(pixels.deviation) != {1.0}:
        deviation = g.constant(_wide(np.array(pixels.deviation)), "pixels.deviation")
        x_BCHW = g("Div", x_BCHW, deviation)
    axes = [1, 2, 3] if pixels.joint else [2, 3]
    return _standardised(g, x_BCHW, axes, epsilon) if pixels.own else x_BCHW


def normal(
    g: Graph,
    norm: Norm,
    arrays: Arrays,
    x_BCHW: str,
    name: str,
    beside: tuple[int, ...] = (-1, 1, 1),
) -> str:
    """A normalisation in evaluation, of an NCHW feature map.

    Args:
        g: The graph.
        norm: Which one.
        arrays: With NAME.scale and NAME.shift, unless it has none, and of a batch norm its running
            numbers.
        x_BCHW: The feature map; of a batch norm any x.
        name: Of the normalisation.
        beside: The shape in which a number of each channel stands beside x.
    """
    first = {"scale": np.ones(1), "shift": np.zeros(1)}
    own = {part: arrays.get(f"{name}.{part}", x).astype(float) for part, x in first.items()}
    if norm.kind == "batch":
        # BatchNormalization has its epsilon in float32 whatever the graph is in.
        mean, variance = (arrays[f"{name}.{part}"].astype(float) for part in ("mean", "variance"))
        own["scale"] = own["scale"] / np.sqrt(variance + norm.epsilon)
        own["shift"] = own["shift"] - mean * own["scale"]
    else:
        axes = [1, 2, 3] if norm.kind == "layer" else [2, 3]
        x_BCHW = _standardised(g, x_BCHW, axes, norm.epsilon)
    constants = [g.constant(x.reshape(beside), f"{name}.{part}") for part, x in own.items()]
    return g("Add", g("Mul", x_BCHW, constants[0]), constants[1], name=name)


def _standardised(g: Graph, x_BCHW: str, axes: list[int], epsilon: float) -> str:
    """An image's own mean 0 and variance 1 over these axes."""
    apart = g("Sub", x_BCHW, g("ReduceMean", x_BCHW, axes=axes, keepdims=1))
    variance = g("ReduceMean", g("Mul", apart, apart), axes=axes, keepdims=1)
    return g("Div", apart, g("Sqrt", g("Add", variance, epsilon)))


def _wide(channels: np.ndarray) -> np.ndarray:
    """[C] -> [C, 1, 1]: beside an NCHW feature map."""
    return channels[:, None, None]


def decode(g: Graph, spec: Efficient, arrays: Arrays, masked: str) -> str:
    """Images in 0 to 1 of class capsules in a row, all but one of them 0.

    [B, J * D] -> [B, H * W * C], or [B, H, W, C] by upsampling; B is B * P there for [B, P, J * D].
    """
    assert spec.decoder is not None
    up, hidden = spec.upsampling, len(spec.decoder)
    for n in range(hidden):
        last = up is not None and n == hidden - 1
        masked = dense(g, masked, arrays, f"decoder.{n}", "Identity" if last else "Relu")
    if up is None:
        return dense(g, masked, arrays, f"decoder.{hidden}", "Sigmoid")
    x_BCHW = g("Reshape", masked, [-1, 1, spec.side, spec.side])
    for n in range(hidden, hidden + len(up.channels)):
        x_BCHW = conv(g, _double_size(g, x_BCHW), arrays, f"decoder.{n}", 1)
        x_BCHW = leaky(g, x_BCHW, up.slope, f"decoder.{n}")
    x_BCHW = conv(g, x_BCHW, arrays, f"decoder.{hidden + len(up.channels)}", 1)
    return nhwc(g, g("Sigmoid", x_BCHW))


def _double_size(g: Graph, x_BCHW: str) -> str:
    """A feature map at twice its size, by bilinear interpolation between half-pixel centres."""
    scales = g.constant(np.array([1, 1, 2, 2], "float32"), "twice", "float32")
    how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return g("Resize", x_BCHW, "", scales, **how)
