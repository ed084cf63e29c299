"""What the two wings must agree on, and the checks that they do.

Importing this package imports nothing else of it.
"""

import importlib
import warnings
from types import ModuleType

# Modules that moved into rooms in 0.2: `from parity import pictures` still finds them, and says so.
MOVED = {
    "allocator": "parity.wing.memory",
    "cache": "parity.wing.cache",
    "checkpoints": "parity.runs.checkpoints",
    "diagnosis": "parity.loop.diagnosis",
    "difference": "parity.traces.measure",
    "evaluate": "parity.cli.evaluate",
    "events": "parity.loop.tensorboard",
    "files": "parity.runs.disk",
    "flags": "parity.cli.flags",
    "interrupt": "parity.loop.signals",
    "known": "parity.saved",
    "pictures": "parity.data.formats.pictures",
    "prefetch": "parity.loop.prefetch",
    "processes": "parity.wing.processes",
    "progress": "parity.loop.terminal",
    "scoring": "parity.loop.scoring",
    "trainer": "parity.wing.trainer",
}


def __getattr__(name: str) -> ModuleType:
    if name not in MOVED:
        raise AttributeError(f"module 'parity' has no attribute {name!r}")
    return moved(f"parity.{name}", MOVED[name])


def moved(before: str, now: str) -> ModuleType:
    """A module under its new name, with a DeprecationWarning that names both."""
    warnings.warn(f"{before} is {now} since 0.2", DeprecationWarning, stacklevel=3)
    return importlib.import_module(now)
