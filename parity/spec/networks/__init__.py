"""The sizes of networks: a file a paper, named as in the wings and the oracle."""

from parity.spec.networks.sabour2017 import Init, NetworkSpec

__all__ = ["Init", "NetworkSpec"]
