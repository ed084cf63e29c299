"""The command line: the flags of train.py, what becomes of them, and every other verb's."""

from parity.cli.output import steadily
from parity.cli.reporting import call
from parity.cli.train import main

__all__ = ["call", "main", "steadily"]
