"""Capsule networks in PyTorch: the wing that the JAX one mirrors, file by file."""

from torch_caps import (
    capsules,
    convolution,
    layers,
    lean,
    losses,
    network,
    numerics,
    processes,
    routing,
    training,
    weights,
)
from torch_caps.capsules import lengths, squash, votes
from torch_caps.network import CapsuleNetwork
from torch_caps.training import Trainer
from torch_caps.weights import load_pretrained

__all__ = [
    "CapsuleNetwork",
    "Trainer",
    "capsules",
    "convolution",
    "layers",
    "lean",
    "lengths",
    "load_pretrained",
    "losses",
    "network",
    "numerics",
    "processes",
    "routing",
    "squash",
    "training",
    "votes",
    "weights",
]
