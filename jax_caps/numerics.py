"""Precision and determinism switches: set, read back, reported."""

import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp

from parity.spec import SpecError

# Its attributes are made at run time, where no type checker sees them.
_CONFIG: Any = jax.config
_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def dtypes(precision: str) -> tuple[jnp.dtype, jnp.dtype]:
    """(dtype of parameters, routing and losses; dtype of convolutions and decoder)."""
    if precision == "bfloat16":
        return jnp.dtype("float32"), jnp.dtype("bfloat16")
    if precision == "float64" and not _CONFIG.jax_enable_x64:
        raise SpecError(
            "precision float64 needs JAX's 64-bit types, which are off in this process; call "
            "jax_caps.numerics.strict('float64') before anything else"
        )
    dtype = {"float32": jnp.dtype("float32"), "float64": jnp.dtype("float64")}[precision]
    return dtype, dtype


def strict(precision: str = "float32") -> None:
    """Switch off every reduced precision (TF32, bfloat16 inside float32), choose deterministic
    algorithms, and for float64 switch on 64-bit types; call it before anything runs.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if _DETERMINISTIC not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_DETERMINISTIC}".strip()
    jax.config.update("jax_default_matmul_precision", "highest")
    if precision == "float64":
        jax.config.update("jax_enable_x64", True)
    dtypes(precision)


def compiled(function: Callable[..., Any], **how: Any) -> Callable[..., Any]:
    """The function through jax.jit, anew for each size it is called with."""
    return jax.jit(function, **how)


def cache(folder: str | os.PathLike) -> None:
    """Keep what XLA compiles in a folder, for the next process; JAX_COMPILATION_CACHE_DIR, where
    it is set, is kept. Without this it is compiled anew.
    """
    if _CONFIG.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", os.fspath(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def tensorfloat32() -> None:
    """Let a GPU round what float32 products take to TF32: after `strict`, to see what it costs."""
    jax.config.update("jax_default_matmul_precision", "tensorfloat32")


def report() -> dict[str, Any]:
    """Versions, devices and the switches as they are now, read back."""
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
        "deterministic": _DETERMINISTIC in os.environ.get("XLA_FLAGS", ""),
    }
