"""The layers of networks: stem, primary capsules, class capsules, decoder.

Each is a module that holds its parameters, in the canonical order of axes; images and feature maps
are NHWC.
"""

from jax_caps.layers.capsules import DigitCapsules
from jax_caps.layers.decoder import Decoder, Dense, dense, mask
from jax_caps.layers.primary import PrimaryCapsules, primary_poses
from jax_caps.layers.stem import Conv, Stem, parameter

__all__ = [
    "Conv",
    "Decoder",
    "Dense",
    "DigitCapsules",
    "PrimaryCapsules",
    "Stem",
    "dense",
    "mask",
    "parameter",
    "primary_poses",
]
