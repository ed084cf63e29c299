"""Modules that only some kinds of file need, imported when asked for."""

import importlib
from pathlib import Path
from types import ModuleType

from parity.spec import TwincapsError

_EXTRAS = {
    "torch_caps.arrays": "twincaps[torch]",
    "torch_caps.weights": "twincaps[torch]",
    "jax_caps.arrays": "twincaps[jax]",
    "jax_caps.weights": "twincaps[jax]",
    "torch_caps.export": "twincaps[torch]",
    "torch_caps.networks": "twincaps[torch]",
    "jax_caps.export": "twincaps[jax]",
    "jax_caps.networks": "twincaps[jax]",
    "onnx": "twincaps[onnx]",
    "orbax.checkpoint": "orbax-checkpoint",
}


def needed(module: str, path: Path) -> ModuleType:
    """A module by name; raises TwincapsError with what to install for a file."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise TwincapsError(
            f"{path}: this kind of file needs {module}, which cannot be imported here ({error}); "
            f"pip install '{_EXTRAS.get(module, module)}'"
        ) from error
