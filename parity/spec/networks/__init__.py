"""What each paper's network is: a file a paper, the same names as the wings'."""

from parity.spec.networks.sabour2017 import Init, NetworkSpec

__all__ = ["Init", "NetworkSpec"]
