"""Random pairs: a random small network twice, with one random change in one of them.

The second is written anew in other modules, so that no name is the same. The change must be named
at the layer where it was made.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ports.row import normal, randomise

Change = Callable[[nn.Module], nn.Module | None]


class Scaled(nn.Module):
    def __init__(self, inner: nn.Module, factor: float = 1.0, offset: float = 0.0):
        super().__init__()
        self.inner, self.factor, self.offset = inner, factor, offset

    def forward(self, x):
        return self.factor * self.inner(x) + self.offset


class Residual(nn.Module):
    def __init__(self, *inner: nn.Module):
        super().__init__()
        self.inner = nn.Sequential(*inner)

    def forward(self, x):
        return x + self.inner(x)


@dataclass(frozen=True)
class Pair:
    """A pair, which change was made and in which layer of the left."""

    left: nn.Module
    right: nn.Module
    x: np.ndarray
    change: str
    place: str


def weight_noise(layer: nn.Module) -> nn.Module | None:
    weight = getattr(layer, "weight", None)
    if weight is None:
        return None
    with torch.no_grad():
        weight.mul_(1.01)
    return layer


def no_bias(layer: nn.Module) -> nn.Module | None:
    if getattr(layer, "bias", None) is None:
        return None
    with torch.no_grad():
        layer.bias.zero_()
    return layer


def epsilon(layer: nn.Module) -> nn.Module | None:
    if not hasattr(layer, "eps"):
        return None
    layer.eps = 1e-3
    return layer


def training(layer: nn.Module) -> nn.Module | None:
    return layer.train() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) else None


def activation(layer: nn.Module) -> nn.Module | None:
    others = {
        nn.ReLU: nn.GELU,
        nn.GELU: lambda: nn.GELU("tanh"),
        nn.Tanh: nn.Sigmoid,
        nn.SiLU: nn.GELU,
    }
    return others[type(layer)]() if type(layer) in others else None


def padding(layer: nn.Module) -> nn.Module | None:
    if not isinstance(layer, nn.Conv2d) or layer.padding == (0, 0):
        return None
    layer.padding_mode = "reflect"
    layer._reversed_padding_repeated_twice = [1, 1, 1, 1]
    return layer


def turned(layer: nn.Module) -> nn.Module | None:
    weight = getattr(layer, "weight", None)
    if weight is None or weight.ndim < 2 or weight.shape[-1] != weight.shape[-2]:
        return None
    with torch.no_grad():
        weight.copy_(weight.transpose(-1, -2).clone())
    return layer


def scaled(layer: nn.Module) -> nn.Module | None:
    return Scaled(layer, factor=-1.0)


def left_out(layer: nn.Module) -> nn.Module | None:
    return nn.Identity() if isinstance(layer, nn.LayerNorm | nn.BatchNorm2d | nn.GELU) else None


CHANGES = [weight_noise, no_bias, epsilon, training, activation, padding, turned, scaled, left_out]


def layers(choose: random.Random) -> list[nn.Module]:
    """A random network: convolutions with norms, or linear layers with norms, some in residuals."""
    acts = [nn.ReLU, nn.GELU, nn.Tanh, nn.SiLU]
    made: list[nn.Module] = []
    if choose.random() < 0.5:
        width = 3
        for _ in range(choose.randint(1, 3)):
            wider = choose.choice([3, 5, 7])
            made += [nn.Conv2d(width, wider, 3, choose.choice([1, 2]), 1)]
            made += [nn.BatchNorm2d(wider)] if choose.random() < 0.6 else []
            made += [choose.choice(acts)()]
            width = wider
        made += [nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten()]
        width *= 6
    else:
        width = 11
    for _ in range(choose.randint(1, 3)):
        wider = choose.choice([7, 11, 13])
        made += [nn.Linear(width, wider, bias=choose.random() < 0.8)]
        made += [nn.LayerNorm(wider)] if choose.random() < 0.6 else []
        made += [choose.choice(acts)()]
        if choose.random() < 0.4:
            made += [
                Residual(nn.Linear(wider, wider), choose.choice(acts)(), nn.Linear(wider, wider))
            ]
        width = wider
    return [*made, nn.Linear(width, 5)]


class Other(nn.Module):
    """The same layers under other names, some called as functions."""

    def __init__(self, made: list[nn.Module], plain: set[int]):
        super().__init__()
        self.part = nn.ModuleDict({f"p{chr(97 + n)}": x for n, x in enumerate(made)})
        self.plain = plain

    def forward(self, x):
        for n, layer in enumerate(self.part.values()):
            x = layer.forward(x) if n in self.plain else layer(x)
        return x


def pair(seed: int) -> Pair:
    """The pair of a seed."""
    import copy

    choose = random.Random(seed)
    made = layers(choose)
    left = randomise(nn.Sequential(*made), seed)
    others = [copy.deepcopy(each) for each in made]
    places = [(n, None) for n in range(len(others))]
    places += [
        (n, m) for n, each in enumerate(others) if isinstance(each, Residual) for m in range(3)
    ]
    while True:
        n, m = choose.choice(places)
        change: Change = choose.choice(CHANGES)
        target = others[n] if m is None else others[n].inner[m]
        if isinstance(target, nn.Flatten | nn.AdaptiveAvgPool2d):
            continue
        changed = change(target)
        if changed is not None:
            break
    if m is None:
        others[n] = changed
    else:
        others[n].inner[m] = changed
    # What has no parameters is a function on the right now and then.
    plain = {
        k for k, each in enumerate(others)
        if not list(each.parameters()) and choose.random() < 0.5
    }  # fmt: skip
    shape = (3, 3, 9, 10) if isinstance(made[0], nn.Conv2d) else (5, 11)
    place = str(n) if m is None else f"{n}.inner.{m}"
    return Pair(left, Other(others, plain), normal(seed, *shape), change.__name__, place)


def named(found: Pair, report: Any) -> str:
    """How a report names the change.

    Returns:
        right: at the layer, or between it and the next, where the change is an operation after it;
        between: the layer is after the last tensor that agrees and before the first that does not,
        as what is between is recorded on one side alone; equal; or elsewhere.
    """
    first = report.first
    if first is None:
        return "equal"
    if first.module == found.place:
        return "right"
    last = first.last.left.removesuffix(" (input)") if first.last else ""
    after = (first.module == "model" and "between" in first.place) or "final" in first.place
    if last == found.place and (after or first.module == found.place.rpartition(".")[0]):
        return "right"
    order = [name for name, _ in found.left.named_modules() if name]
    order = [name for name in order if not name.endswith(".inner")]
    if first.module in order and found.place in order:
        start = order.index(last) if last in order else -1
        if start <= order.index(found.place) <= order.index(first.module):
            return "between"
    return "between" if after or found.place.startswith(f"{first.module}.") else "elsewhere"
