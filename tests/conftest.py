"""How the tests run: one wing after the other, threads within bounds, 64-bit types by choice.

JAX reads its switches when it is first imported, so they are environment variables here, set
before any test file is; a test's own subprocesses inherit them. Four fifths of a test of the JAX
wing would be XLA's compiling, so what one worker or subprocess has compiled serves all the others.

Marks: `slow` is what `make test-slow` runs (whole trainings, wide tables, launchers, mistakes made
on purpose); everything a user can do has a test without it, in both wings. `float64` tests have a
process of their own, as JAX's 64-bit types are a switch of the whole process.
"""

import ctypes
import gc
import os
import re
import resource
import sys
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores: one thread each
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"

import hypothesis
import pytest
import wings

from parity.wing import cache

# What is compiled is kept for the next test, apart for each processor, not among the user's own.
os.environ["XDG_CACHE_HOME"] = str(wings.ROOT / ".pytest_cache")
if (kept := cache.folder()) is not None:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(kept / "tests")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

# XLA's optimiser and its newer emitters are 70 % of its compiling. What it makes with them, as a
# user has it, is in whole trainings (test_handover.py). The last flag is one that `strict` adds:
# programs are found again by a process with the same flags alone. Each must be one that XLA knows:
# it reads none that stands after another word.
FLAGS = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_gpu_deterministic_ops=true",
)
LONGEST = {
    f"test_{name}.py"
    for name in (
        "promise",
        "active",
        "handover",
        "deepcaps_doors",
        "compare_ladder",
        "variational_bayes",
        "processes",
        "mutants",
        "numerical_safety",
        "network",
        "lean",
    )
}

hypothesis.settings.register_profile("twincaps", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("twincaps")


def selects(config: pytest.Config, mark: str) -> bool:
    """Whether the run asks for tests of this mark: `-m float64`, but not `-m "not float64"`."""
    return re.search(rf"(?<!not )\b{mark}\b", config.option.markexpr) is not None


def pytest_configure(config: pytest.Config) -> None:
    os.environ["JAX_ENABLE_X64"] = "1" if selects(config, "float64") else "0"
    flags = (*os.environ.get("XLA_FLAGS", "").split(), *FLAGS)
    os.environ["XLA_FLAGS"] = " ".join(dict.fromkeys(flags))
    os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
    if not selects(config, "gpu"):
        os.environ["JAX_PLATFORMS"] = "cpu"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    reasons = {
        "float64": not selects(config, "float64") and "needs a process of its own: -m float64",
        "gpu": not selects(config, "gpu") and "needs a CUDA device: -m gpu",
        "data": not os.environ.get("TWINCAPS_DATA") and "needs full data sets in TWINCAPS_DATA",
    }
    for item in items:
        for mark, reason in reasons.items():
            if reason and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))
    # Begun first, so that no worker is left with one of them at the end.
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True, scope="module")
def bounded():
    """Compiled programs pile up in a worker, gigabytes of them: each file begins without."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
    gc.collect()
    if sys.platform == "linux":  # what is free goes back to the system, which Trainers keep else
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(autouse=True)
def switched():
    """JAX's 64-bit types are as this run has them again after a ladder that wanted others."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_enable_x64", os.environ["JAX_ENABLE_X64"] == "1")


PEAKS: list[int] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (told := getattr(session.config, "workeroutput", None)) is not None:
        told["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    PEAKS.append(node.workeroutput["peak"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The largest memory of each worker and of any process, where asked for."""
    if "TWINCAPS_MEMORY" in os.environ:
        any_process = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        terminalreporter.write_line(f"peak KiB: workers {PEAKS}, largest process {any_process}")


@pytest.fixture(params=wings.NAMES)
def wing(request: pytest.FixtureRequest):
    """The package of each wing of TWINCAPS_WINGS in turn; fails where it cannot be imported."""
    return wings.load(request.param)


@pytest.fixture
def both_wings() -> tuple:
    """The packages of both wings, torch first; skipped where TWINCAPS_WINGS names one alone."""
    if len(wings.NAMES) < len(wings.PACKAGES):
        pytest.skip(f"compares both wings, and TWINCAPS_WINGS is {','.join(wings.NAMES)}")
    return tuple(wings.load(name) for name in wings.PACKAGES)
