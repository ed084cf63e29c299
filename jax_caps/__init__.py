"""Capsule networks in JAX and Flax NNX: the wing that mirrors the PyTorch one, file by file."""

from jax_caps import (
    capsules,
    convolution,
    layers,
    lean,
    losses,
    network,
    numerics,
    routing,
    training,
    weights,
)
from jax_caps.capsules import lengths, squash, votes
from jax_caps.network import CapsuleNetwork
from jax_caps.training import Trainer

__all__ = [
    "CapsuleNetwork",
    "Trainer",
    "capsules",
    "convolution",
    "layers",
    "lean",
    "lengths",
    "losses",
    "network",
    "numerics",
    "routing",
    "squash",
    "training",
    "votes",
    "weights",
]
