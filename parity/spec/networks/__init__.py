"""The sizes of networks: a file a paper, named as in the wings and the oracle."""

from parity.spec.networks.efficient import Efficient
from parity.spec.networks.network import NetworkSpec
from parity.spec.networks.sabour2017 import Init, Sabour2017

NETWORKS: dict[str, type[NetworkSpec]] = {"sabour2017": Sabour2017, "efficient": Efficient}

__all__ = ["NETWORKS", "Efficient", "Init", "NetworkSpec", "Sabour2017"]
