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
from jax_caps.weights import load_pretrained

__all__ = [
    "CapsuleNetwork",
    "Trainer",
    "arrays",
    "build",
    "capsules",
    "convolution",
    "export",
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
    "squash",
    "tracing",
    "training",
    "votes",
    "weights",
]
