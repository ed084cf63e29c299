"""Whole networks: a file a paper, the same names as in `parity.spec.networks`."""

from jax_caps.networks.sabour2017 import CapsuleNetwork

__all__ = ["CapsuleNetwork"]
