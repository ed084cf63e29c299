"""Where the command line keeps compiled code for the next process."""

import hashlib
import os
import platform
from pathlib import Path

CPU = Path("/proc/cpuinfo")


def folder() -> Path | None:
    """twincaps/ in the user's folder of caches, and in it one for each kind of processor: code for
    one may not run on another that shares the home. None where nothing can be written.
    """
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if Path(home).is_absolute() else Path("~/.cache").expanduser()
    found = base / "twincaps" / f"{platform.machine()}-{_processor()}"
    try:
        found.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return found if os.access(found, os.W_OK) else None


def _processor() -> str:
    try:
        lines = CPU.read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    told = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return hashlib.sha256("\n".join(dict.fromkeys(told or lines)).encode()).hexdigest()[:12]
