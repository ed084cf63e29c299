"""Weights between frameworks, and from other people's capsule networks."""

from parity.convert.conversion import convert, network
from parity.convert.foreign import Adopted
from parity.convert.inspection import describe
from parity.convert.layouts import LAYOUTS, Layout

__all__ = ["LAYOUTS", "Adopted", "Layout", "convert", "describe", "network"]
