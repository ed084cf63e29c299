"""Capsule networks in JAX and Flax NNX: the wing that mirrors the PyTorch one, file by file."""

from jax_caps import (
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
from jax_caps.capsules import lengths, squash, votes
from jax_caps.network import CapsuleNetwork
from jax_caps.training import Trainer
from jax_caps.weights import load_pretrained

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
