"""A trained network as a file that others run: ONNX, and each framework's own."""

from parity.export.model import build
from parity.export.writing import ENDINGS, export

__all__ = ["ENDINGS", "build", "export"]
