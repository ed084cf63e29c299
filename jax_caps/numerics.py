"""Precision and determinism switches of the process: set, put back, reported.

Building a network or a Trainer sets them once, so that float32 is float32 whoever builds it: what
is set afterwards stays as it is set, by `tensorfloat32`, by `restore` or by JAX's own switches.
"""

import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp

from parity.spec import Precision, SpecError, check_precision

# Its attributes are made at run time, where no type checker sees them.
_CONFIG: Any = jax.config
_SWITCHES = ("jax_default_matmul_precision", "jax_enable_x64")
_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def dtypes(precision: Precision) -> tuple[jnp.dtype, jnp.dtype]:
    """The dtypes of a precision.

    Args:
        precision: One of `parity.spec.PRECISIONS`.

    Returns:
        That of parameters, routing and losses, and that of convolutions and decoder.

    Raises:
        SpecError: Where the precision is unknown, or float64 while 64-bit types are off.
    """
    check_precision(precision)
    if precision == "bfloat16":
        return jnp.dtype("float32"), jnp.dtype("bfloat16")
    if precision == "float64" and not _CONFIG.jax_enable_x64:
        raise SpecError(
            "precision float64 needs JAX's 64-bit types, which are off in this process; call "
            "jax_caps.numerics.strict('float64') before anything else"
        )
    dtype = {"float32": jnp.dtype("float32"), "float64": jnp.dtype("float64")}[precision]
    return dtype, dtype


# The user's own switches, from the first `strict` until `restore`.
_before: dict[str, Any] = {}
_asked: set[str] = set()  # of XLA before it started, which `restore` cannot take back


def strict(precision: Precision = "float32") -> None:
    """Sets full float32 precision and deterministic algorithms in this process.

    float32 products no longer use TF32 or bfloat16. `restore` resets the user's own switches. XLA
    reads its switch once, when it starts: call this before JAX computes anything.

    Args:
        precision: One of `parity.spec.PRECISIONS`; float64 enables JAX's 64-bit types.

    Raises:
        SpecError: Where the precision is unknown.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if not _before:
        _before.update(_switches())
    if _DETERMINISTIC not in flags and not _started():
        # First: XLA reads no flag after a word that is none, such as some users' thread counts.
        os.environ["XLA_FLAGS"] = f"{_DETERMINISTIC} {flags}".strip()
        _asked.add(_DETERMINISTIC)
    jax.config.update("jax_default_matmul_precision", "highest")
    if precision == "float64":
        jax.config.update("jax_enable_x64", True)
    dtypes(precision)


def build() -> None:
    """Calls `strict` unless it was called before; networks call this when built."""
    if not _before:
        strict()


def restore() -> None:
    """Resets the switches to those before the first `strict`, or network.

    The next call of `strict` or `build` sets them again.
    """
    if not _before:
        return
    for name in _SWITCHES:
        jax.config.update(name, _before[name])
    if _before["XLA_FLAGS"] is None:
        os.environ.pop("XLA_FLAGS", None)
    else:
        os.environ["XLA_FLAGS"] = _before["XLA_FLAGS"]
    _before.clear()


def _switches() -> dict[str, Any]:
    switches = {name: getattr(_CONFIG, name) for name in _SWITCHES}
    return {**switches, "XLA_FLAGS": os.environ.get("XLA_FLAGS")}


def _started() -> bool:
    """Whether XLA has started, which JAX says only here."""
    try:
        from jax._src.xla_bridge import backends_are_initialized
    except ImportError:
        return False
    return backends_are_initialized()


def compiled(function: Callable[..., Any], **how: Any) -> Callable[..., Any]:
    """The function through jax.jit, compiled once for each size of argument.

    Args:
        function: Of arrays.
        how: Further options of jax.jit.
    """
    return jax.jit(function, **how)


def cache(folder: str | os.PathLike) -> None:
    """Keeps what XLA compiles in a folder, for the next process.

    A JAX_COMPILATION_CACHE_DIR that is set stays. Without either, every process compiles again.
    """
    if _CONFIG.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", os.fspath(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def tensorfloat32() -> None:
    """Lets a GPU round the factors of float32 products to TF32, after `strict`."""
    jax.config.update("jax_default_matmul_precision", "tensorfloat32")


def report() -> dict[str, Any]:
    """Versions, devices and the switches as they are now.

    `deterministic` is what XLA was asked for when it started.
    """
    device = jax.devices()[0]
    return {
        "framework": "jax",
        "versions": {
            "jax": jax.__version__,
            "jaxlib": version("jaxlib"),
            "python": platform.python_version(),
        },
        "device": device.device_kind if device.platform != "cpu" else platform.machine() + " cpu",
        "devices": jax.device_count(),
        "matmul_precision": _CONFIG.jax_default_matmul_precision,
        "x64": _CONFIG.jax_enable_x64,
        "deterministic": _DETERMINISTIC in {*_asked, *os.environ.get("XLA_FLAGS", "").split()},
    }
