"""A residual network with batch norm: torch, and its port to Flax nnx.

Axes: B batch, H W C image; PyTorch's images are [B, C, H, W].
"""

import jax
import jax.numpy as jnp
import torch
from flax import nnx
from torch import nn

from ports.row import FLAX, ISSUES, PULLS, Fault, Network, array, normal, randomise


class Block(nn.Module):
    def __init__(self, width: int, inner: int, out: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out)
        self.down = nn.Sequential(nn.Conv2d(width, out, 1, 2, bias=False), nn.BatchNorm2d(out))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + self.down(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.BatchNorm2d(5)
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.block = Block(5, 7, 11)
        self.mean = nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)
        self.up = nn.ConvTranspose2d(11, 5, 4, stride=2, padding=1)
        self.larger = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.fc = nn.Linear(5 * 16 * 16, 13)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn(self.stem(x))))
        x = self.larger(torch.relu(self.up(self.mean(self.block(x)))))
        return self.fc(x.flatten(1))


class FlaxBlock(nnx.Module):
    def __init__(self, width, inner, out, fault, rngs):
        def conv(a, b, size, stride=1, pad=0):
            return nnx.Conv(a, b, (size, size), stride, padding=pad, use_bias=False, rngs=rngs)

        def norm(size):
            return nnx.BatchNorm(size, use_running_average=True, epsilon=1e-5, rngs=rngs)

        early = fault == "stride in the 1x1 convolution"
        self.conv1, self.norm1 = conv(width, inner, 1, 2 if early else 1), norm(inner)
        self.conv2, self.norm2 = conv(inner, inner, 3, 1 if early else 2, 1), norm(inner)
        self.conv3, self.norm3 = conv(inner, out, 1), norm(out)
        self.shortcut, self.norm = conv(width, out, 1, 2), norm(out)
        self.fault = fault

    def __call__(self, x):
        y = nnx.relu(self.norm1(self.conv1(x)))
        y = nnx.relu(self.norm2(self.conv2(y)))
        y, z = self.norm3(self.conv3(y)), self.norm(self.shortcut(x))
        if self.fault == "activation before the sum":
            return nnx.relu(y) + z
        return nnx.relu(y + z)


class FlaxNet(nnx.Module):
    def __init__(self, fault):
        rngs = nnx.Rngs(0)
        same = fault == "SAME padding with a stride"
        pad = "SAME" if same else ((1, 1), (1, 1))
        self.conv = nnx.Conv(3, 5, (3, 3), 2, padding=pad, rngs=rngs)
        self.norm = nnx.BatchNorm(
            5,
            use_running_average=fault != "batch norm in training mode",
            epsilon=1e-3 if fault == "batch norm's epsilon of Keras" else 1e-5,
            rngs=rngs,
        )
        self.block = FlaxBlock(5, 7, 11, fault, rngs)
        self.up = nnx.ConvTranspose(
            11, 5, (4, 4), 2, padding=((2, 2), (2, 2)),
            transpose_kernel=fault != "transposed convolution without a flip", rngs=rngs,
        )  # fmt: skip
        self.linear = nnx.Linear(5 * 16 * 16, 13, use_bias=fault != "no bias", rngs=rngs)
        self.fault = fault

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        pad = "SAME" if self.fault == "SAME padding of a maximum" else ((1, 1), (1, 1))
        x = self.block(nnx.max_pool(x, (3, 3), (2, 2), pad))
        x = nnx.avg_pool(
            x, (3, 3), (1, 1), ((1, 1), (1, 1)),
            count_include_pad=self.fault == "padding counted in a mean",
        )  # fmt: skip
        x = nnx.relu(self.up(x))
        x = self.larger(x)
        return self.linear(x.reshape(x.shape[0], -1))

    def larger(self, x):
        B, H, W, C = x.shape
        if self.fault == "corners not aligned":
            return jax.image.resize(x, (B, 2 * H, 2 * W, C), "bilinear")
        scale = jnp.array([(2 * n - 1) / (n - 1) for n in (H, W)])
        return jax.image.scale_and_translate(
            x, (B, 2 * H, 2 * W, C), (1, 2), scale, 0.5 - scale / 2, "linear", antialias=False
        )


def port(model: Net, fault: str) -> FlaxNet:
    """The port, with a fault where one is named."""
    flax = FlaxNet(fault)

    def convolution(ours, theirs):
        turned = fault == "square kernel transposed" and theirs is model.block.conv2
        ours.kernel[...] = array(theirs.weight, *((3, 2, 1, 0) if turned else (2, 3, 1, 0)))
        if theirs.bias is not None:
            ours.bias[...] = array(theirs.bias)

    def norm(ours, theirs):
        ours.scale[...], ours.bias[...] = array(theirs.weight), array(theirs.bias)
        ours.mean[...] = array(theirs.running_mean)
        if not (fault == "running variance not copied" and theirs is model.block.bn2):
            ours.var[...] = array(theirs.running_var)

    ours, theirs = flax.block, model.block
    convolution(flax.conv, model.stem)
    norm(flax.norm, model.bn)
    for a, b in ((ours.conv1, theirs.conv1), (ours.conv2, theirs.conv2),
                 (ours.conv3, theirs.conv3), (ours.shortcut, theirs.down[0])):  # fmt: skip
        convolution(a, b)
    for a, b in ((ours.norm1, theirs.bn1), (ours.norm2, theirs.bn2),
                 (ours.norm3, theirs.bn3), (ours.norm, theirs.down[1])):  # fmt: skip
        norm(a, b)
    if flax.up.transpose_kernel:
        flax.up.kernel[...] = array(model.up.weight, 2, 3, 1, 0)
    else:
        flax.up.kernel[...] = array(model.up.weight, 2, 3, 0, 1)
    flax.up.bias[...] = array(model.up.bias)
    rows = array(model.fc.weight)
    if fault != "rows in the other flatten order":
        rows = rows.reshape(13, 5, 16, 16).transpose(0, 2, 3, 1).reshape(13, -1)
    flax.linear.kernel[...] = rows.T
    if fault != "no bias":
        flax.linear.bias[...] = array(model.fc.bias)
    return flax


def pair(seed: int, fault: str) -> dict:
    model = randomise(Net(), seed)
    images_BHWC = normal(seed, 2, 32, 32, 3)
    given = {
        "left": model,
        "right": port(model, fault),
        "inputs": [images_BHWC.transpose(0, 3, 1, 2)],
    }
    return given | {"right_inputs": [images_BHWC]}


NETWORK = Network(
    "residual network",
    "torch, nnx",
    pair,
    [
        Fault("SAME padding with a stride", "stem", ("semantic",),
              ISSUES.format("google/flax", 2993)),
        Fault("SAME padding of a maximum", "pool", ("semantic",),
              ISSUES.format("google/flax", 963)),
        Fault("padding counted in a mean", "mean", ("border", "semantic"),
              PULLS.format("google/flax", 1848)),
        Fault("batch norm's epsilon of Keras", "bn", ("scale or offset",),
              PULLS.format("scverse/scvi-tools", 2309)),
        Fault("batch norm in training mode", "bn", ("scale or offset",),
              "https://flax.readthedocs.io/en/stable/api_reference/flax.nnx/nn/normalization.html"),
        Fault("running variance not copied", "block.bn2", ("parameter",), FLAX),
        Fault("activation before the sum", "block", ("semantic",),
              "https://arxiv.org/abs/1603.05027"),
        Fault("stride in the 1x1 convolution", "block.conv1", ("shape",),
              ISSUES.format("pytorch/vision", 191)),
        Fault("square kernel transposed", "block.conv2", ("parameter",), FLAX),
        Fault("transposed convolution without a flip", "up", ("semantic",),
              ISSUES.format("jax-ml/jax", 11252)),
        Fault("corners not aligned", "larger", ("semantic",), ISSUES.format("google/flax", 2210)),
        Fault("rows in the other flatten order", "fc", ("axis order",), FLAX),
        Fault("no bias", "fc", ("parameter",), FLAX),
    ],
)  # fmt: skip
