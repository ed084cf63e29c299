"""The one training loop: `train`, what it shows meanwhile, and how it stops."""

from parity.loop.session import History, train
from parity.loop.signals import Stopped
from parity.loop.watcher import Line, Watcher

__all__ = ["History", "Line", "Stopped", "Watcher", "train"]
