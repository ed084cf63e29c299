"""The sizes of networks: a file a paper, named as in the wings and the oracle."""

from parity.spec.networks.deepcaps import Rajasegaran2019
from parity.spec.networks.efficient import Efficient
from parity.spec.networks.inverted import Tsai2020
from parity.spec.networks.matrix import Hinton2018, Matrix, MatrixInit
from parity.spec.networks.network import NetworkSpec
from parity.spec.networks.residual import Residual
from parity.spec.networks.sabour2017 import Init, Sabour2017
from parity.spec.networks.self_routing import Hahn2019
from parity.spec.networks.variational_bayes import Ribeiro2020

NETWORKS: dict[str, type[NetworkSpec]] = {
    "sabour2017": Sabour2017,
    "efficient": Efficient,
    "self_routing": Hahn2019,
    "matrix": Hinton2018,
    "inverted": Tsai2020,
    "deepcaps": Rajasegaran2019,
    "variational_bayes": Ribeiro2020,
}

__all__ = [
    "NETWORKS",
    "Efficient",
    "Hahn2019",
    "Hinton2018",
    "Init",
    "Matrix",
    "MatrixInit",
    "NetworkSpec",
    "Rajasegaran2019",
    "Residual",
    "Ribeiro2020",
    "Sabour2017",
    "Tsai2020",
]
