"""Precision and determinism switches of the process: set, put back, reported.

Building a network or a Trainer sets them once, so that float32 is float32 whoever builds it: what
is set afterwards stays as it is set, by `tensorfloat32`, by `restore` or by torch's own switches.
"""

import os
import platform
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch.utils import deterministic

from parity.spec import Precision, check_precision

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_LAYERS = 64  # that one function of a network may be compiled for
# Every leaf, since the top-level switch does not reach cuDNN (pytorch issue 179445).
_LEAVES = (
    ("cuda.matmul", torch.backends.cuda.matmul),
    ("cudnn.conv", getattr(torch.backends.cudnn, "conv", None)),
    ("cudnn.rnn", getattr(torch.backends.cudnn, "rnn", None)),
    ("mkldnn.conv", getattr(torch.backends.mkldnn, "conv", None)),
    ("mkldnn.matmul", getattr(torch.backends.mkldnn, "matmul", None)),
    ("mkldnn.rnn", getattr(torch.backends.mkldnn, "rnn", None)),
)


def dtypes(precision: Precision) -> tuple[torch.dtype, torch.dtype]:
    """The dtypes of a precision.

    Args:
        precision: One of `parity.spec.PRECISIONS`.

    Returns:
        That of parameters, routing and losses, and that of convolutions and decoder.

    Raises:
        SpecError: Where the precision is unknown.
    """
    check_precision(precision)
    if precision == "bfloat16":
        return torch.float32, torch.bfloat16
    dtype = {"float32": torch.float32, "float64": torch.float64}[precision]
    return dtype, dtype


# The user's own switches, from the first `strict` until `restore`.
_before: dict[str, Any] = {}


def strict(precision: Precision = "float32") -> None:
    """Sets full float32 precision and deterministic algorithms in this process.

    float32 products no longer use TF32 or bfloat16, and operations without a deterministic
    algorithm raise. `restore` resets the user's own switches. cuBLAS reads its switch at its first
    use: call this before any computation on a GPU.

    Args:
        precision: One of `parity.spec.PRECISIONS`. It is only checked: torch has no switch for
            float64, the JAX wing has.

    Raises:
        SpecError: Where the precision is unknown.
    """
    dtypes(precision)
    if not _before:
        _before.update(_switches())
    os.environ.setdefault(_WORKSPACE, ":4096:8")
    for _, leaf in _LEAVES:
        if leaf is not None:
            leaf.fp32_precision = "ieee"
    # Unlike `use_deterministic_algorithms` this does not import the compiler; `compiled` tells it.
    torch.set_deterministic_debug_mode("error")
    # Nothing here reads memory it has not written, and filling it costs a twentieth of a step.
    deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]


def build() -> None:
    """Calls `strict` unless it was called before; networks call this when built.

    The user's own operations without a deterministic algorithm then warn; after `strict` they
    raise.
    """
    if not _before:
        strict()
        if _before["deterministic"] < 2:
            torch.set_deterministic_debug_mode("warn")


def restore() -> None:
    """Resets the switches to those before the first `strict`, or network.

    The next call of `strict` or `build` sets them again.
    """
    if not _before:
        return
    for name, leaf in _LEAVES:
        if leaf is not None:
            leaf.fp32_precision = _before[name]
    torch.set_deterministic_debug_mode(_before["deterministic"])
    deterministic.fill_uninitialized_memory = _before["fill"]  # pyright: ignore[reportAttributeAccessIssue]
    if _before["workspace"] is None:
        os.environ.pop(_WORKSPACE, None)
    _before.clear()


def _switches() -> dict[str, Any]:
    return {
        **{name: leaf.fp32_precision for name, leaf in _LEAVES if leaf is not None},
        "deterministic": torch.get_deterministic_debug_mode(),
        "fill": deterministic.fill_uninitialized_memory,  # pyright: ignore[reportAttributeAccessIssue]
        "workspace": os.environ.get(_WORKSPACE),
    }


def compiled(function: Callable[..., Any], **how: Any) -> Callable[..., Any]:
    """The function through torch.compile, compiled once for each size of argument.

    The width of this processor's vectors is passed on, since inductor's cache of graphs does not
    tell widths apart: where one process had chosen narrower vectors, the next took its kernels
    from the cache, compiled them for wider ones, and they wrote past the ends of arrays.

    Args:
        function: Of tensors.
        how: Further options of torch.compile.
    """
    from torch._dynamo import config as limits
    from torch._inductor import config as inductor
    from torch._inductor.cpu_vec_isa import pick_vec_isa  # slow to import

    inductor.deterministic = torch.are_deterministic_algorithms_enabled()
    options: Any = {"cpp.simdlen": pick_vec_isa().bit_width() or None}
    # A convolution, which is not compiled, ends a graph, and what follows is compiled for each
    # layer: a deep network has more of them than the 8 after which torch gives up.
    limits.recompile_limit = max(limits.recompile_limit, _LAYERS)
    return torch.compile(function, dynamic=False, options=options, **how)


def _uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, into which torch.compile does not look.

    `torch.compiler.disable` does the same, and imports the compiler at once, which takes as long
    as importing torch: here that waits until somebody compiles.
    """
    # An attribute of a module is looked up for real, and so made, also while a call is compiled.
    alone: Any = ModuleType("alone")

    def make(name: str) -> Callable[..., Any]:
        if name != "function":
            raise AttributeError(name)
        alone.function = torch.compiler.disable(function)
        return alone.function

    alone.__getattr__ = make

    def call(*arguments: Any) -> Any:
        if "torch._dynamo" in sys.modules:
            return alone.function(*arguments)
        return function(*arguments)

    return call


def cache(folder: str | os.PathLike) -> None:
    """Keeps what torch.compile makes in a folder, for the next process.

    A TORCHINDUCTOR_CACHE_DIR that is set stays. Without this call the temporary folder is used.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.fspath(folder))


def tensorfloat32() -> None:
    """Lets a GPU round the factors of float32 products to TF32, after `strict`."""
    for name, leaf in _LEAVES:
        if leaf is not None and name.startswith(("cuda.", "cudnn.")):
            leaf.fp32_precision = "tf32"


def report() -> dict[str, Any]:
    """Versions, devices and the switches as they are now.

    CUBLAS_WORKSPACE_CONFIG is what cuBLAS reads when it is first used.
    """
    cuda = torch.cuda.is_available()
    return {
        "framework": "torch",
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "device": torch.cuda.get_device_name() if cuda else platform.machine() + " cpu",
        "threads": torch.get_num_threads(),
        "fp32_precision": {name: leaf.fp32_precision for name, leaf in _LEAVES if leaf is not None},
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        _WORKSPACE: os.environ.get(_WORKSPACE),
    }
