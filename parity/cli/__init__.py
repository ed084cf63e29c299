"""The command line: the flags of train.py, the training that they ask for, and every other verb."""

from parity.cli.output import steadily
from parity.cli.reporting import call
from parity.cli.train import main

__all__ = ["call", "main", "steadily"]
