"""Loading somebody else's function: path.to.module:function or file.py:function."""

import importlib
import importlib.util
import operator
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parity.conformance.calling import useful
from parity.conformance.kinds import ConformanceError

FORM = "path.to.module:function or file.py:function"


def load(module: str) -> Callable[..., Any]:
    """The function that `module:name` or `file.py:name` means; runs the module.

    The module runs as a script without arguments, from the working folder. A class whose instances
    are functions is called, without arguments, for one. Raises ConformanceError.
    """
    path, _, name = module.rpartition(":")
    if not path or not name:
        raise ConformanceError(f"{module!r}; expected {FORM}")
    loaded = _imported(path, module)
    try:
        function = operator.attrgetter(name)(loaded)
    except AttributeError as error:
        there = [
            member
            for member in vars(loaded)
            if member[:1] != "_" and callable(vars(loaded)[member])
        ]
        raise ConformanceError(
            f"{module}: there is no {name} ({useful(error)}); expected one of {', '.join(there)}"
        ) from error
    if isinstance(function, type) and any("__call__" in vars(base) for base in function.__mro__):
        function = _instance(function, module)
    if not callable(function):
        raise ConformanceError(
            f"{module} is of type {type(function).__name__}; expected a function"
        )
    return function


def _imported(path: str, module: str) -> Any:
    """The module, run; raises ConformanceError with what kept it from it."""
    argv, places = sys.argv, list(sys.path)
    sys.argv = [path]
    sys.path.insert(0, os.getcwd())
    try:
        return _from_file(Path(path)) if path.endswith(".py") else importlib.import_module(path)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not path.endswith(".py") and f"{path}.".startswith(f"{missing}."):
            fault = f"there is no module {missing} here ({useful(error)})"
            advice = f"expected {FORM}"
        else:
            fault = f"it imports {missing or 'something'}, which is not here ({useful(error)})"
            advice = "install it beside twincaps, or add its folder to PYTHONPATH"
        raise ConformanceError(f"{module}: could not be loaded, {fault}; {advice}") from error
    except SystemExit as error:
        raise ConformanceError(
            f"{module}: could not be loaded, it ends the process when it is imported "
            f"({useful(error)}); expected a module whose work as a script, like reading a command "
            'line, is under if __name__ == "__main__"'
        ) from error
    except Exception as error:
        hint = ""
        if "relative import" in str(error):
            hint = "; of a package's module expected path.to.module:function"
        raise ConformanceError(
            f"{module}: could not be loaded ({useful(error)}); expected {FORM}, of a module that "
            f"can be imported{hint}"
        ) from error
    finally:
        sys.argv, sys.path[:] = argv, places


def _from_file(path: Path) -> Any:
    """A module from a file, which may import its neighbours as a script may."""
    name = f"conformance_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = loaded = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    spec.loader.exec_module(loaded)
    return loaded


def _instance(kind: type, module: str) -> Any:
    try:
        return kind()
    except (Exception, SystemExit) as error:
        raise ConformanceError(
            f"{module} is a class, of which no instance can be made without arguments "
            f"({useful(error)}); expected a function, or an instance: give one a name in the module"
        ) from error
