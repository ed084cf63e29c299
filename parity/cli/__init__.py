"""The command line: the flags of train.py, its training, and the other verbs."""

from parity.cli.output import steadily
from parity.cli.reporting import call
from parity.cli.train import main

__all__ = ["call", "main", "steadily"]
