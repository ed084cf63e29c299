"""A pair file: two models, and what to give them.

    def left():    return a torch.nn.Module, a flax.nnx.Module, (flax.linen.Module, variables),
                          an equinox.Module, a function, or the path of a trace
    def right():   return the other
    def inputs():  return [NumPy arrays]

`left_inputs` and `right_inputs` where the two take other layouts; `left_call(model, *inputs)` and
`right_call` where a model is not simply called.
"""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from parity.diff.sides import Side, side
from parity.diff.trace import DiffError
from parity.spec import error_line

FORM = "expected a Python file with left(), right() and inputs()"


def load(path: Path) -> ModuleType:
    """A pair file as a module, which may import its neighbours; raises DiffError."""
    if not path.is_file():
        raise DiffError(f"{path}: no such file; {FORM}")
    spec = importlib.util.spec_from_file_location(f"pair_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise DiffError(f"{path}: not a .py file; {FORM}")
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise DiffError(
            f"{path}: it imports {error.name}, which is not here; install it, or name an "
            "interpreter that has it with --left-python or --right-python"
        ) from error
    except (Exception, SystemExit) as error:
        raise DiffError(f"{path}: could not be loaded ({error_line(error)}); {FORM}") from error
    return module


def side_of(module: ModuleType, path: Path, where: str) -> Side:
    """One side of a pair file, ready to run."""
    model = _asked(module, path, where)
    relative = Path(model) if isinstance(model, str | Path) else None
    if relative is not None:
        return side(where, path.parent / relative, ())
    return side(
        where, model, inputs_of(module, path, where), getattr(module, f"{where}_call", None)
    )


def inputs_of(module: ModuleType, path: Path, where: str) -> Sequence[Any]:
    """What a side is given."""
    name = f"{where}_inputs" if hasattr(module, f"{where}_inputs") else "inputs"
    return _asked(module, path, name)


def _asked(module: ModuleType, path: Path, name: str) -> Any:
    function = getattr(module, name, None)
    if not callable(function):
        raise DiffError(f"{path}: has no function {name}(); {FORM}")
    try:
        return function()
    except ModuleNotFoundError as error:
        raise DiffError(
            f"{path}: {name}() imports {error.name}, which is not here; install it, or name an "
            "interpreter that has it with --left-python or --right-python"
        ) from error
    except (Exception, SystemExit) as error:
        raise DiffError(f"{path}: {name}() raised {error_line(error)}; expected a model") from error
