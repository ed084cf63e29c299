"""The sizes of networks: a file a paper, with the same name in both wings and the oracle."""

from parity.spec.networks.sabour2017 import Init, NetworkSpec

__all__ = ["Init", "NetworkSpec"]
