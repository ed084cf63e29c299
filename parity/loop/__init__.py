"""The one training loop: `train`, what it shows meanwhile, and how it stops."""

from parity.loop.session import History, train
from parity.loop.signals import Stopped

__all__ = ["History", "Stopped", "train"]
