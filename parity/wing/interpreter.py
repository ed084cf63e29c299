"""Another interpreter that runs our code: how it starts, and in what environment."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Whatever else lies beside our packages, as in a site-packages folder, is of this interpreter
# alone: another one is given these three by name, and no folder of ours on its path. What it is
# to import comes after this, with the root put in.
OURS_ALONE = """
import sys
from importlib.machinery import PathFinder
class Ours:
    def find_spec(name, path=None, target=None):
        if name in ('parity', 'torch_caps', 'jax_caps'):
            return PathFinder.find_spec(name, [{root!r}])
sys.meta_path.insert(0, Ours)
"""
_PATHS = {"PYTHONPATH", "PYTHONHOME"}


def environment(other: bool) -> dict[str, str]:
    """This process's environment; another interpreter gets it without this one's package paths."""
    return {name: value for name, value in os.environ.items() if not (other and name in _PATHS)}
