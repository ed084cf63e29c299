"""The wheel of the working tree, built in a copy of it and without the network."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from wings import ROOT

PACKAGES = ("torch_caps", "jax_caps", "parity")
BESIDE = ("pyproject.toml", "setup.py", "README.md", "LICENSE")


def build(out: Path) -> Path:
    """Builds the wheel into a folder; returns its path."""
    with tempfile.TemporaryDirectory() as source:
        for name in BESIDE:
            shutil.copy(ROOT / name, source)
        for name in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, Path(source) / name, ignore=ignored)
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, "."]
        result = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,) = out.glob("*.whl")
    return wheel
