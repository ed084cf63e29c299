"""Right ports that look unlike: none may be called different.

The ports of `residual`, `transformer`, `recurrent` and `capsules` without a fault, and small pairs
in which a tool that compares tensor by tensor would see one.
"""

from typing import Any

import numpy as np
import torch
from flax import nnx
from torch import nn

from ports.row import array, normal, randomise


class Twice(nn.Module):
    """A module that is used twice, a relu as a module, and tied weights."""

    def __init__(self):
        super().__init__()
        self.layer, self.relu, self.back = nn.Linear(7, 7), nn.ReLU(), nn.Linear(7, 7, bias=False)
        self.back.weight = self.layer.weight

    def forward(self, x):
        return self.back(self.relu(self.layer(self.relu(self.layer(x)))))


class FlaxTwice(nnx.Module):
    def __init__(self, model):
        self.layer = nnx.Linear(7, 7, rngs=nnx.Rngs(0))
        self.layer.kernel[...] = array(model.layer.weight, 1, 0)
        self.layer.bias[...] = array(model.layer.bias)

    def __call__(self, x):
        x = nnx.relu(self.layer(nnx.relu(self.layer(x))))
        return x @ self.layer.kernel[...]


def twice(seed: int) -> dict[str, Any]:
    model = randomise(Twice(), seed)
    return {"left": model, "right": FlaxTwice(model), "inputs": [normal(seed, 3, 7)]}


class Square(nn.Module):
    """An output whose two axes are equal, and attention weights beside it."""

    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(5, 11, bias=False), nn.Linear(5, 11, bias=False)
        self.soft = nn.Softmax(-1)

    def forward(self, x):
        return self.soft(self.query(x) @ self.key(x).transpose(1, 2) / 11**0.5)


def square(seed: int) -> dict[str, Any]:
    model = randomise(Square(), seed)
    query, key = (array(each.weight) for each in (model.query, model.key))

    def right(x):
        scores = np.einsum("bte,de,df,bsf->bts", x, query, key, x) / 11**0.5
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    return {"left": model, "right": right, "inputs": [normal(seed, 2, 7, 5)]}


class Conv(nn.Module):
    """Convolutions, pooled and flattened before a linear layer: functions between modules."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 7, 3)
        self.norm, self.out = nn.BatchNorm2d(7), nn.Linear(7 * 3 * 2, 11)

    def forward(self, x):
        x = torch.relu(self.norm(self.two(torch.relu_(self.one(x)))))
        return self.out(torch.max_pool2d(x, 2).flatten(1))


class FlaxConv(nnx.Module):
    """The same with the batch norm folded into the convolution before it."""

    def __init__(self, model):
        rngs = nnx.Rngs(0)
        self.a = nnx.Conv(3, 5, (3, 3), padding="VALID", rngs=rngs)
        self.b = nnx.Conv(5, 7, (3, 3), padding="VALID", rngs=rngs)
        self.c = nnx.Linear(42, 11, rngs=rngs)
        self.a.kernel[...] = array(model.one.weight, 2, 3, 1, 0)
        self.a.bias[...] = array(model.one.bias)
        norm = model.norm
        scale = array(norm.weight) / np.sqrt(array(norm.running_var) + norm.eps)
        self.b.kernel[...] = array(model.two.weight, 2, 3, 1, 0) * scale
        shift = array(norm.bias) - array(norm.running_mean) * scale
        self.b.bias[...] = array(model.two.bias) * scale + shift
        rows = array(model.out.weight).reshape(11, 7, 3, 2).transpose(0, 2, 3, 1)
        self.c.kernel[...] = rows.reshape(11, -1).T
        self.c.bias[...] = array(model.out.bias)

    def __call__(self, x):
        x = nnx.relu(self.b(nnx.relu(self.a(x))))
        x = nnx.max_pool(x, (2, 2), (2, 2))
        return self.c(x.reshape(x.shape[0], -1))


def folded(seed: int) -> dict[str, Any]:
    model = randomise(Conv(), seed)
    images = normal(seed, 2, 11, 9, 3)
    given = {"left": model, "right": FlaxConv(model), "inputs": [images.transpose(0, 3, 1, 2)]}
    return given | {"right_inputs": [images]}


RIGHT = {
    "a module used twice, tied weights": twice,
    "an output with two equal axes": square,
    "a batch norm folded, NCHW flattened": folded,
}
