"""Disks that are full and folders that may not be written: told of, nothing lost, gone on with."""

import contextlib
import ctypes
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from faults.kills import Undisturbed
from faults.process import LIMIT, command, difference, end, environment, run
from faults.row import Row
from parity.spec import TwincapsError

LIMITED, TMPFS, FORBIDDEN = (
    "a file that may not grow further (RLIMIT_FSIZE)",
    "a full disk (a small tmpfs)",
    "a folder or file that may not be written",
)
# Bytes: below spec.json, between the files of a checkpoint, and below those of longer metrics.
LIMITS = (300, 700, 10_000, 20_000, 60_000)
TMPFS_KIB = (4, 72, 160, 300)
OVERRIDES = (1, 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of Linux
DROP = 24  # prctl's PR_CAPBSET_DROP
SCRIPT = (
    'mount -t tmpfs -o size="$KIB"k none "$0" || exit 3; "$@"; echo "code $?"; '
    'mount -o remount,size=64m "$0"; "$@"; echo "code $?"; cp -a "$0/run" "$0.run"'
)


def full(backend: str, folder: Path, whole: Undisturbed, say: Callable[..., None]) -> list[Row]:
    """Train until no more can be written, then with room again."""
    limited, small = Row(backend, LIMITED), Row(backend, TMPFS)
    for limit in LIMITS:
        path = folder / f"limited-{limit}" / "run"
        argv = command(backend, path)

        def narrow(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

        code, output = run(argv, environment(folder / "cached"), narrow)
        _judge(limited, f"limit {limit}", code, output, "File too large", str(path))
        code, output = run(argv, environment(folder))
        _compare(limited, f"limit {limit}", code, output, path, whole)
    say(f"{backend}: {limited.fault}: {limited.resumed} of {limited.tried}")
    for kib in TMPFS_KIB:
        place = folder / f"tmpfs-{kib}"
        place.mkdir()
        argv = command(backend, place / "run")
        found = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT, place, *argv],
            env={**environment(folder), "KIB": str(kib)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=20 * LIMIT,
            check=False,
        )
        if found.returncode == 3 or "code" not in found.stdout:
            say(f"{backend}: {small.fault}: not tried, this machine does not allow the mount")
            return [limited]
        first, _, second = found.stdout.rpartition("code 2\n")
        about = f"tmpfs of {kib} KiB"
        _judge(small, about, 2 if first else 0, first or found.stdout, "No space left", str(place))
        _compare(small, about, found.returncode, second, Path(f"{place}.run"), whole)
    say(f"{backend}: {small.fault}: {small.resumed} of {small.tried}")
    return [limited, small]


def forbidden(
    backend: str, folder: Path, whole: Undisturbed, halfway: Path, say: Callable[..., None]
) -> list[Row]:
    """Go on with a run some part of which may only be read, then with permission."""
    row = Row(backend, FORBIDDEN)
    for part in ("parent", ".", "checkpoints"):
        path = folder / f"forbidden-{part.strip('.') or 'run'}" / "run"
        path.parent.mkdir()
        if part == "parent":
            place = path.parent
        else:
            shutil.copytree(halfway, path)
            place = path / part
        with _closed(place):
            code, output = run(command(backend, path), environment(folder), _powerless)
        _judge(row, part, code, output, "Permission denied", str(path))
        code, output = run(command(backend, path), environment(folder))
        _compare(row, part, code, output, path, whole)
    say(f"{backend}: {row.fault}: {row.resumed} of {row.tried}")
    return [row]


@contextlib.contextmanager
def _closed(path: Path) -> Iterator[None]:
    mode = path.stat().st_mode
    path.chmod(mode & ~0o222)
    try:
        yield
    finally:
        path.chmod(mode)


def _powerless() -> None:
    """Before a program starts: root, too, may do only what the permissions of files allow."""
    if os.geteuid() == 0:
        for capability in OVERRIDES:
            ctypes.CDLL(None, use_errno=True).prctl(DROP, capability, 0, 0, 0)


def _judge(row: Row, about: str, code: int, output: str, reason: str, named: str) -> None:
    """Whether a fault was told of in one line that names the place and the reason."""
    row.tried += 1
    said = [line for line in output.splitlines() if line.startswith("error: ")]
    told = bool(said) and reason in said[0] and named in said[0]
    if code == 2 and told and "Traceback" not in output:
        row.detected += 1
        return
    row.losses.append(f"{row.backend}, {row.fault}, {about}: code {code}: {output[-400:]}")


def _compare(row: Row, about: str, code: int, output: str, path: Path, whole: Undisturbed) -> None:
    """Whether the same run, gone on with, ends where the undisturbed one does."""
    try:
        fault = difference(end(path), whole.end) if code == 0 else f"code {code}: {output[-400:]}"
    except (TwincapsError, OSError) as error:
        fault = str(error)
    if fault:
        row.losses.append(f"{row.backend}, {row.fault}, {about}, gone on with: {fault}")
    else:
        row.resumed += 1
