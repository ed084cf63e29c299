"""Models of public packages against Flax ports written for this test, with random weights.

torchvision's resnet18 against nnx, and a layer of transformers' BERT against linen.
"""

import importlib.util
import math
from typing import Any

import jax
import jax.numpy as jnp
import torch
from flax import linen, nnx

from ports.row import array, normal, randomise

OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
# torchvision's compiled operators need not fit this torch, and no model here uses them.
if importlib.util.find_spec("torchvision"):
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            OPERATORS.define(f"{operator}(Tensor a, Tensor b, float c) -> Tensor")


class Basic(nnx.Module):
    def __init__(self, width, out, stride, fault, rngs):
        def conv(a, b, size, stride, pad):
            pad = (
                "SAME" if fault == "SAME padding with a stride" and size == 3 else ((pad, pad),) * 2
            )
            return nnx.Conv(a, b, (size, size), stride, padding=pad, use_bias=False, rngs=rngs)

        def norm(size):
            return nnx.BatchNorm(size, use_running_average=True, epsilon=1e-5, rngs=rngs)

        self.c1, self.n1 = conv(width, out, 3, stride, 1), norm(out)
        self.c2, self.n2 = conv(out, out, 3, 1, 1), norm(out)
        self.short = nnx.List([conv(width, out, 1, stride, 0), norm(out)] if stride > 1 else [])
        self.fault = fault

    def __call__(self, x):
        y = self.n2(self.c2(nnx.relu(self.n1(self.c1(x)))))
        for each in self.short:
            x = each(x)
        return nnx.relu(y) + x if self.fault == "activation before the sum" else nnx.relu(y + x)


class Resnet(nnx.Module):
    def __init__(self, fault):
        rngs = nnx.Rngs(0)
        self.stem = nnx.Conv(3, 64, (7, 7), 2, padding=((3, 3), (3, 3)), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(64, use_running_average=True, epsilon=1e-5, rngs=rngs)
        sizes, width, blocks = (64, 128, 256, 512), 64, []
        for n, out in enumerate(sizes):
            for m in range(2):
                here = fault if (n, m) == (2, 0) else ""
                blocks.append(Basic(width, out, 2 if n and not m else 1, here, rngs))
                width = out
        self.blocks, self.out = nnx.List(blocks), nnx.Linear(512, 1000, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.stem(x)))
        x = nnx.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for block in self.blocks:
            x = block(x)
        return self.out(x.mean((1, 2)))


def resnet(seed: int, fault: str = "") -> dict[str, Any]:
    """The pair of a seed, with a fault in the port where one is named."""
    from torchvision.models import resnet18

    model = randomise(resnet18(weights=None), seed)
    flax = Resnet(fault)

    def convolution(ours, theirs):
        ours.kernel[...] = array(theirs.weight, 2, 3, 1, 0)

    def norm(ours, theirs):
        ours.scale[...], ours.bias[...] = array(theirs.weight), array(theirs.bias)
        ours.mean[...], ours.var[...] = array(theirs.running_mean), array(theirs.running_var)

    convolution(flax.stem, model.conv1)
    norm(flax.norm, model.bn1)
    theirs = [b for n in (1, 2, 3, 4) for b in getattr(model, f"layer{n}")]
    for n, (a, b) in enumerate(zip(flax.blocks, theirs, strict=True)):
        convolution(a.c1, b.conv1)
        convolution(a.c2, b.conv1 if fault == "a kernel copied twice" and n == 5 else b.conv2)
        norm(a.n1, b.bn1)
        norm(a.n2, b.bn2)
        if b.downsample is not None:
            convolution(a.short[0], b.downsample[0])
            norm(a.short[1], b.downsample[1])
    flax.out.kernel[...] = array(model.fc.weight, 1, 0)
    flax.out.bias[...] = array(model.fc.bias)
    images = normal(seed, 1, 64, 64, 3)
    given = {"left": model, "right": flax, "inputs": [images.transpose(0, 3, 1, 2)]}
    return given | {"right_inputs": [images]}


class Layer(linen.Module):
    heads: int
    fault: str

    @linen.compact
    def __call__(self, x):
        B, T, E = x.shape
        dense = linen.Dense
        parts = (dense(E, name=name)(x) for name in ("q", "k", "v"))
        q, k, v = (m.reshape(B, T, self.heads, -1).swapaxes(1, 2) for m in parts)
        size = 1 if self.fault == "scores not scaled" else E // self.heads
        weights = jax.nn.softmax(q @ k.swapaxes(-1, -2) / math.sqrt(size))
        y = dense(E, name="out")((weights @ v).swapaxes(1, 2).reshape(B, T, E))
        epsilon = 1e-6 if self.fault == "layer norm's epsilon of Flax" else 1e-12
        x = linen.LayerNorm(epsilon, name="norm1")(x + y)
        y = dense(40, name="up")(x)
        y = jax.nn.gelu(y, approximate=self.fault == "gelu by tanh")
        return linen.LayerNorm(1e-12, name="norm2")(x + dense(E, name="down")(y))


def bert(seed: int, fault: str = "") -> dict[str, Any]:
    """The pair of a seed, with a fault in the port where one is named."""
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLayer

    config = BertConfig(hidden_size=24, num_attention_heads=3, intermediate_size=40)
    config._attn_implementation = "eager"
    model = randomise(BertLayer(config), seed)
    own, out = model.attention.self, model.attention.output

    def dense(layer):
        return {"kernel": array(layer.weight, 1, 0), "bias": array(layer.bias)}

    def norm(layer):
        return {"scale": array(layer.weight), "bias": array(layer.bias)}

    params = {
        "q": dense(own.query), "k": dense(own.key), "v": dense(own.value),
        "out": dense(out.dense), "norm1": norm(out.LayerNorm),
        "up": dense(model.intermediate.dense), "down": dense(model.output.dense),
        "norm2": norm(model.output.LayerNorm),
    }  # fmt: skip
    params = jax.tree.map(jnp.asarray, params)
    return {"left": model, "right": (Layer(3, fault), {"params": params}),
            "inputs": [normal(seed, 2, 7, 24)]}  # fmt: skip


# Model, fault -> module and kind.
ZOO = {
    ("resnet18", "SAME padding with a stride"): ("layer3.0.conv1", "semantic"),
    ("resnet18", "activation before the sum"): ("layer3.0", "semantic"),
    ("resnet18", "a kernel copied twice"): ("layer3.1.conv2", "parameter"),
    ("BERT layer", "scores not scaled"): ("attention.self", "semantic"),
    ("BERT layer", "layer norm's epsilon of Flax"): (
        "attention.output.LayerNorm",
        "scale or offset",
    ),
    ("BERT layer", "gelu by tanh"): ("intermediate.intermediate_act_fn", "semantic"),
}
PAIRS = {"resnet18": resnet, "BERT layer": bert}
