"""A whole network: a file a paper."""

from parity.reference.networks.sabour2017 import decode, encode, forward, mask

__all__ = ["decode", "encode", "forward", "mask"]
