"""Modules that only some kinds of file need, imported when asked for."""

import importlib
from pathlib import Path
from types import ModuleType

from parity.spec import TwincapsError

_EXTRAS = {  # by the package that a module is in; others are called as they are
    "torch_caps": "twincaps[torch]",
    "jax_caps": "twincaps[jax]",
    "onnx": "twincaps[onnx]",
    "orbax": "orbax-checkpoint",
}


def needed(module: str, path: Path) -> ModuleType:
    """A module by name; raises TwincapsError with what to install for a file."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise TwincapsError(
            f"{path}: this kind of file needs {module}, which cannot be imported here ({error}); "
            f"pip install '{_EXTRAS.get(package, module)}'"
        ) from error
