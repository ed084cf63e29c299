"""What tests over both wings share: loading one by name, NumPy in and out, gradients, differences.

TWINCAPS_WINGS names the wings a run must have ("torch,jax" unless set): one that is named and
cannot be imported fails its tests, it never skips them.
"""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from parity.traces.measure import difference as difference

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"torch": "torch_caps", "jax": "jax_caps"}
NAMES = tuple(os.environ.get("TWINCAPS_WINGS", ",".join(PACKAGES)).split(","))
MODULES = [
    "arrays",
    "capsules",
    "convolution",
    "fourier",
    "routing",
    "layers",
    "lean",
    "losses",
    "networks",
    "weights",
    "training",
    "tracing",
    "export",
    "numerics",
    "processes",
]

if unknown := set(NAMES) - set(PACKAGES):
    raise ValueError(f"TWINCAPS_WINGS names {sorted(unknown)}; the wings are {list(PACKAGES)}")


def wide(rows: Iterable[Any], quick: Callable[..., bool]) -> list[Any]:
    """The rows of a wide table, all but the quick marked `slow`; a tuple is several values."""
    marked = []
    for row in rows:
        if not isinstance(row, type(pytest.param())):
            row = pytest.param(*row) if isinstance(row, tuple) else pytest.param(row)
        marks = row.marks if quick(*row.values) else (*row.marks, pytest.mark.slow)
        marked.append(pytest.param(*row.values, id=row.id, marks=marks))
    return marked


def python(*argv: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """What Python says in a process of its own, which finds our packages from any folder."""
    return subprocess.run(
        [sys.executable, *map(str, argv)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def door(*argv: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line with a tiny preset and data set, and without figures."""
    return python(ROOT / "tests/door.py", *argv, **{"DOOR_FIGURES": "none", **environment})


# Of a test of both wings, the JAX row is `slow`: it compiles for seconds what others try as well.
jax_slow = pytest.mark.parametrize("wing", wide(NAMES, "torch".__eq__), indirect=True)


def load(name: str) -> ModuleType:
    """The package of a wing ("torch", "jax"), with all of `MODULES` imported as its attributes."""
    package = importlib.import_module(PACKAGES[name])
    for module in MODULES:
        importlib.import_module(f"{PACKAGES[name]}.{module}")
    return package


def array(wing: ModuleType, x: Any) -> Any:
    """The wing's own array of a NumPy array, with the same dtype, sharing no memory."""
    if wing.__name__ == "torch_caps":
        return importlib.import_module("torch").tensor(x)
    out = importlib.import_module("jax.numpy").asarray(x, copy=True)
    assert out.dtype == np.asarray(x).dtype, f"{out.dtype}: JAX's 64-bit types are off"
    return out


def numpy(x: Any) -> np.ndarray:
    """A NumPy copy of a wing's array."""
    return np.array(x.detach().cpu().numpy() if hasattr(x, "detach") else x)


def gradients(
    wing: ModuleType,
    function: Callable[..., Any],
    arrays: Sequence[np.ndarray],
    cotangent: np.ndarray | float = 1.0,
    jit: bool = True,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """function(*arrays), and the gradient of sum(function(*arrays) * cotangent) by each array.

    `function` takes and returns one array of the wing; a scalar needs no cotangent. `jit` is
    whether JAX compiles them as one program, which is sooner done than one for each operation.
    """
    inputs = [array(wing, x) for x in arrays]
    weight = array(wing, np.asarray(cotangent, np.asarray(arrays[0]).dtype))
    if wing.__name__ == "torch_caps":
        inputs = [x.requires_grad_() for x in inputs]
        value = function(*inputs)
        (value * weight).sum().backward()
        return numpy(value), [
            np.zeros(x.shape, a.dtype) if x.grad is None else numpy(x.grad)
            for x, a in zip(inputs, arrays, strict=True)
        ]
    jax = importlib.import_module("jax")

    def both(weight: Any, *inputs: Any) -> Any:
        value, pull = jax.vjp(function, *inputs)
        return value, pull(jax.numpy.broadcast_to(weight, value.shape))

    value, slopes = (jax.jit(both) if jit else both)(weight, *inputs)
    return numpy(value), [numpy(g) for g in slopes]
