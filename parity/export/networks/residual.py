"""The residual networks before capsules as ONNX operators, in evaluation.

Axes: B batch, H W C image or feature map.
"""

from parity.export.graph import Graph
from parity.export.layers import nchw, own
from parity.export.networks.efficient import normal, standardised
from parity.spec import Residual
from parity.weights import Arrays, transpose


def features(g: Graph, spec: Residual, arrays: Arrays, images_BHWC: str) -> str:
    """What stem and blocks make of images, NCHW."""
    x_BCHW = standardised(g, spec.pixels, spec.epsilon, nchw(g, images_BHWC))
    for n, layer in enumerate(spec.stem):
        name = f"stem.{n}"
        if spec.norm is None:
            x_BCHW = g("Relu", conv(g, x_BCHW, arrays, name, layer.stride), name=name)
        else:
            x_BCHW = convolved(g, spec, arrays, x_BCHW, name, layer.stride)
            x_BCHW = g("Relu", x_BCHW, name=f"{name}.activation")
    for n, block in enumerate(spec.blocks):
        name = f"block.{n}"
        y_BCHW = convolved(g, spec, arrays, x_BCHW, f"{name}.conv.0", block.stride)
        y_BCHW = g("Relu", y_BCHW, name=f"{name}.conv.0.activation")
        y_BCHW = convolved(g, spec, arrays, y_BCHW, f"{name}.conv.1", 1)
        if block.projected:
            x_BCHW = convolved(g, spec, arrays, x_BCHW, f"{name}.shortcut", block.stride)
        else:
            channels = arrays[f"{name}.conv.0.kernel"].shape[2]
            x_BCHW = _shortcut(g, x_BCHW, block.channels - channels, block.stride)
        x_BCHW = g("Relu", g("Add", y_BCHW, x_BCHW), name=name)
    return x_BCHW


def conv(g: Graph, x_BCHW: str, arrays: Arrays, name: str, stride: int) -> str:
    """A convolution padded by half its kernel, with a bias where it has one."""
    kernel = transpose(arrays[f"{name}.kernel"], "kh kw in out", "out in kh kw")
    weights = [g.constant(kernel, f"{name}.kernel")]
    weights += [own(g, arrays, f"{name}.bias")] if f"{name}.bias" in arrays else []
    how = {"strides": [stride, stride], "pads": [kernel.shape[2] // 2] * 4}
    return g("Conv", x_BCHW, *weights, name=f"{name}.conv", **how)


def convolved(g: Graph, spec: Residual, arrays: Arrays, x_BCHW: str, name: str, stride: int) -> str:
    """A convolution without bias, padded by half its kernel, normalised."""
    x_BCHW = conv(g, x_BCHW, arrays, name, stride)
    return normal(g, spec.norm, arrays, x_BCHW, f"{name}.norm")


def _shortcut(g: Graph, x_BCHW: str, missing: int, stride: int) -> str:
    """Every stride-th pixel, and the missing channels as zeros, half before and half after."""
    ends, steps = g.constant([2**31, 2**31], "ends"), g.constant([stride] * 2)
    x_BCHW = g("Slice", x_BCHW, g.constant([0, 0]), ends, g.constant([2, 3]), steps)
    if not missing:
        return x_BCHW
    before, after = missing // 2, missing - missing // 2
    return g("Pad", x_BCHW, g.constant([0, before, 0, 0, 0, after, 0, 0]))
