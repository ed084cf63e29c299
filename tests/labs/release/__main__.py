"""Install the wheel as a user does, and use it from an empty folder: `make release-check`.

python -m release [torch] [jax] [none] [--python PATH ...]: a new virtual environment for each
interpreter and each of these, with the versions of constraints.txt and the small extras that the
verbs need. By default the interpreters are this one and those of Python 3.12 and 3.13 found here;
these are tried with the first extra alone, as they differ in wheels and not in what is computed.
Ends with 1 where a command failed, or pyright objects to the README's own example.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import wheels
from wings import ROOT

EXTRAS = ("torch", "jax", "none")
BESIDE = "data,onnx"  # predict reads a picture, export writes ONNX
LARGEST = 8e6  # bytes of the wheel
PICTURE = ROOT / "tests/pictures/three.png"
TRAIN = "train --preset small --epochs 1 --batch-size 100 --backend"
# What the command line must do with a framework, and without one; what it must say, exit code.
VERBS = {
    "--version": ("twincaps {version}", 0),
    TRAIN + " {wing} --out run": ("test accuracy 0.", 0),
    "evaluate run": ("of 1,000 images of mnist-mini, {wing}", 0),
    "predict three.png --backend {wing}": ("three.png: 3", 0),
    "export run net.onnx": ("net.onnx", 0),
    "explore run --out page.html": ("page.html", 0),
}
WITHOUT = {
    "--version": ("twincaps {version}", 0),
    TRAIN + " torch": ("pip install 'twincaps[torch]'", 2),
    "predict three.png": ("pip install 'twincaps[torch]', or 'twincaps[jax]'", 2),
    "inspect small-mnist": ("digit.kernel", 0),
    "export small-mnist net.onnx": ("net.onnx", 0),
    "explore small-mnist --out page.html": ("page.html", 0),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    parser.add_argument("extras", nargs="*", choices=[*EXTRAS, []], help="all unless given")
    parser.add_argument("--python", action="append", help="an interpreter; all found unless given")
    asked = parser.parse_args()
    extras = asked.extras or list(EXTRAS)
    rows = [(sys.executable, extra) for extra in extras]
    if asked.python:
        rows = [(python, extra) for python in asked.python for extra in extras]
    else:
        rows += [(python, extras[0]) for python in others()]
    with tempfile.TemporaryDirectory() as folder:
        wheel = wheels.build(Path(folder))
        size = wheel.stat().st_size
        print(f"{wheel.name}: {size / 1e6:.2f} MB", flush=True)
        faults = [f"the wheel has {size} bytes; expected at most {LARGEST:.0f}"] * (size > LARGEST)
        for python, extra in rows:
            faults += tried(wheel, python, extra)
    for fault in faults:
        print(f"FAULT {fault}")
    return 1 if faults else 0


def others() -> list[str]:
    """The interpreters of Python 3.12 and 3.13 that are here, of pyenv too."""
    found = []
    for minor in (12, 13):
        here = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python"))
        if path := (str(here[-1]) if here else shutil.which(f"python3.{minor}")):
            found.append(path)
    return found


def tried(wheel: Path, python: str, extra: str) -> list[str]:
    """The faults of one installation."""
    with tempfile.TemporaryDirectory() as folder:
        there, empty = Path(folder) / "venv", Path(folder) / "empty"
        empty.mkdir()
        began = time.perf_counter()
        said = run([python, "-m", "venv", there], empty)
        chosen = BESIDE if extra == "none" else f"{extra},{BESIDE}"
        flags = shlex.split(os.environ.get("PIP_FLAGS", ""))
        pip = [there / "bin/pip", "install", "-q", *flags, "-c", ROOT / "constraints.txt"]
        said = run([*pip, f"{wheel}[{chosen}]"], empty)
        name = f"{version(python)} with {extra}"
        if said.returncode:
            return [f"{name}: pip install: {said.stderr.strip()[-500:]}"]
        installed = time.perf_counter() - began
        shutil.copy(PICTURE, empty)
        faults = [*used(there, empty, extra, wheel.name.split("-")[1])]
        if extra != "none":
            faults += typed(there, empty, extra)
        seconds = time.perf_counter() - began - installed
        print(
            f"{name}: installed in {installed:.0f} s, used in {seconds:.0f} s, "
            f"{len(faults)} faults",
            flush=True,
        )
        return [f"{name}: {fault}" for fault in faults]


def used(there: Path, empty: Path, extra: str, release: str) -> list[str]:
    """The faults of the command line."""
    faults = []
    for command, (says, code) in (WITHOUT if extra == "none" else VERBS).items():
        words = command.format(wing=extra).split()
        said = run([there / "bin/twincaps", *words], empty)
        told = " ".join((said.stdout + said.stderr).split())
        if said.returncode != code or says.format(version=release, wing=extra) not in told:
            faults.append(f"twincaps {' '.join(words)}: {said.returncode}: {told[-500:]}")
    return faults


def typed(there: Path, empty: Path, wing: str) -> list[str]:
    """What pyright says of the README's example, with the installed packages."""
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert example is not None
    array = {"torch": "torch.Tensor", "jax": "jax.Array"}[wing]
    lines = [
        example[1].replace("import torch_caps as caps", f"import {wing}_caps as caps"),
        f"import {wing}",
        "from typing import assert_type",
        f"assert_type(poses, {array})",
    ]
    (empty / "user.py").write_text("\n".join(lines))
    pyright = Path(sys.executable).with_name("pyright")
    said = run([pyright, "--pythonpath", there / "bin/python", "user.py"], empty)
    return [f"pyright: {said.stdout.strip()[-500:]}"] * (said.returncode != 0)


def version(python: str) -> str:
    return run([python, "--version"], Path.cwd()).stdout.strip()


def run(command: list, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command in a folder, with nothing of ours on Python's path."""
    environment = {name: x for name, x in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


if __name__ == "__main__":
    sys.exit(main())
