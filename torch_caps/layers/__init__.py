"""The layers of networks: stem, primary capsules, class capsules, decoder.

Each is a module that holds its parameters, in torch's order of axes; images and feature maps are
NHWC between layers.
"""

from torch_caps.layers.capsules import DigitCapsules
from torch_caps.layers.cell import Cell, ConvCapsules, RoutedCapsules
from torch_caps.layers.decoder import (
    Decoder,
    Dense,
    TransposedDecoder,
    UpsamplingDecoder,
    dense,
    mask,
)
from torch_caps.layers.inverted import FirstCapsules, InvertedCapsules
from torch_caps.layers.matrix import MatrixCapsules, NormalMatrixCapsules, NormalPoses
from torch_caps.layers.norm import Norm, NormalConv, NormalStem, leaky, standardised
from torch_caps.layers.primary import DepthwiseCapsules, PrimaryCapsules, primary_poses
from torch_caps.layers.residual import Block
from torch_caps.layers.self_routing import SelfRoutingCapsules
from torch_caps.layers.stem import Conv, Stem, one_line, parameter

__all__ = [
    "Block",
    "Cell",
    "Conv",
    "ConvCapsules",
    "Decoder",
    "Dense",
    "DepthwiseCapsules",
    "DigitCapsules",
    "FirstCapsules",
    "InvertedCapsules",
    "MatrixCapsules",
    "Norm",
    "NormalConv",
    "NormalMatrixCapsules",
    "NormalPoses",
    "NormalStem",
    "PrimaryCapsules",
    "RoutedCapsules",
    "SelfRoutingCapsules",
    "Stem",
    "TransposedDecoder",
    "UpsamplingDecoder",
    "dense",
    "leaky",
    "mask",
    "one_line",
    "parameter",
    "primary_poses",
    "standardised",
]
