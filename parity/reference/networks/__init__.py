"""Whole networks, forward: a file a paper, with the same name as in the wings."""

from parity.reference.networks.network import decode, encode, forward, mask

__all__ = ["decode", "encode", "forward", "mask"]
