"""The layers of networks: stem, primary capsules, class capsules, decoder.

Each is a module that holds its parameters, in the canonical order of axes; images and feature maps
are NHWC.
"""

from jax_caps.layers.capsules import DigitCapsules
from jax_caps.layers.cell import Cell, ConvCapsules, RoutedCapsules
from jax_caps.layers.decoder import (
    Decoder,
    Dense,
    TransposedDecoder,
    UpsamplingDecoder,
    dense,
    mask,
)
from jax_caps.layers.inverted import FirstCapsules, InvertedCapsules
from jax_caps.layers.matrix import MatrixCapsules, NormalMatrixCapsules, NormalPoses
from jax_caps.layers.norm import Norm, NormalConv, NormalStem, leaky, standardised
from jax_caps.layers.primary import DepthwiseCapsules, PrimaryCapsules, primary_poses
from jax_caps.layers.residual import Block
from jax_caps.layers.self_routing import SelfRoutingCapsules
from jax_caps.layers.stem import Conv, Stem, one_line, parameter

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
