"""Capsule networks in JAX and Flax: the twin of `torch_caps`, file by file."""

from jax_caps import (
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
from jax_caps.capsules import lengths, squash, votes
from jax_caps.networks import CapsuleNetwork, build
from jax_caps.training import Trainer
from jax_caps.weights import from_pretrained, load_pretrained, save_pretrained

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
