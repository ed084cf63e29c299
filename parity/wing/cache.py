"""Where the command line keeps compiled code for the next process."""

import hashlib
import os
import platform
import tempfile
from pathlib import Path

from parity.data.locate import cache

CPU = Path("/proc/cpuinfo")


def folder() -> Path | None:
    """The folder for this kind of processor in the user's cache, None without one.

    None where none can be written. Code for one may not run on another that shares the home.
    """
    user_cache = cache()
    if user_cache is None:
        return None
    path = user_cache / f"{platform.machine()}-{_processor()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return path if os.access(path, os.W_OK) else None


def stand_in() -> None:
    """Names a folder for torch where the system has none for temporary files.

    torch asks for one when it is imported, and writes there only what it compiles.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.getcwd())


def _processor() -> str:
    try:
        lines = CPU.read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    features = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return hashlib.sha256("\n".join(dict.fromkeys(features or lines)).encode()).hexdigest()[:12]
