"""Capsule networks in PyTorch: the twin of `jax_caps`, file by file."""

from torch_caps import (
    arrays,
    capsules,
    convolution,
    export,
    layers,
    lean,
    losses,
    networks,
    norm,
    numerics,
    processes,
    routing,
    tracing,
    training,
    weights,
)
from torch_caps.capsules import lengths, squash, votes
from torch_caps.networks import CapsuleNetwork, build
from torch_caps.training import Trainer
from torch_caps.weights import from_pretrained, load_pretrained, save_pretrained

__all__ = [
    "CapsuleNetwork",
    "Trainer",
    "arrays",
    "build",
    "capsules",
    "convolution",
    "export",
    "from_pretrained",
    "layers",
    "lean",
    "lengths",
    "load_pretrained",
    "losses",
    "networks",
    "norm",
    "numerics",
    "processes",
    "routing",
    "save_pretrained",
    "squash",
    "tracing",
    "training",
    "votes",
    "weights",
]
