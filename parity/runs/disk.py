"""The disk: nothing half-written, nothing altered unseen, one writer."""

import errno
import hashlib
import json
import os
import shutil
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from filelock import lock_descriptor

from parity.spec import TwincapsError
from parity.weights import UNSUPPORTED, digest, flush, write_whole

SCHEMA = 1
LARGEST_JSON = 1 << 20
GO_ON = "what was saved before is untouched: fix this and go on with --resume"
# What locking a file answers where there are no locks: ENOLCK of NFS, EPERM of some FUSE.
LOCKLESS = UNSUPPORTED | {errno.EPERM, errno.ENOLCK}
WINDOWS = os.name == "nt"


class RunError(TwincapsError):
    """A run folder that cannot be made, read or gone on with."""


class RunWarning(UserWarning):
    """Something in a run folder was torn or altered, and the run goes on without it."""


@contextmanager
def telling(path: Path, doing: str, then: str = GO_ON) -> Iterator[None]:
    """Turns the system's refusals (full disk, read-only folder) into a RunError."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: could not {doing} ({error.strerror or error}); {then}") from error


def flush_folder(folder: Path) -> None:
    """Asks the disk to keep the names in a folder, on systems that can."""
    if WINDOWS:  # opens files alone
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        flush(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, kind: str, values: Mapping[str, Any]) -> None:
    """Writes one object with its kind and its own sha256, whole or not at all."""
    values = {"format": kind, "schema": SCHEMA, **values}
    write_whole(path, _encode({**values, "sha256": digest({}, values)}))


def read_json(path: Path, kind: str) -> dict[str, Any]:
    """The values of `write_json`; raises RunError if a single byte differs."""
    if not path.is_file():
        raise RunError(f"{path}: no such file; it was deleted, or this is not a run folder")
    with telling(path, "read it"):
        content = path.read_bytes() if path.stat().st_size <= LARGEST_JSON else b""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or values.get("format") != kind:
        raise RunError(f"{path}: not a whole {kind} file; it was torn or altered")
    if values.get("schema") != SCHEMA:
        raise RunError(
            f"{path}: schema version {values.get('schema')}, this twincaps reads {SCHEMA}; use "
            "the twincaps that wrote it"
        )
    if values.get("sha256") != digest({}, values) or _encode(values) != content:
        raise RunError(f"{path}: its content does not match its sha256; it was altered")
    return {k: v for k, v in values.items() if k not in ("format", "schema", "sha256")}


def _encode(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, sort_keys=True) + "\n").encode()


def no_link(path: str, flags: int) -> int:
    """An opener of files to write that refuses links, which may lead elsewhere."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def hold(folder: Path, named: Path | None = None) -> IO[str]:
    """Locks a folder for writing until the returned file is closed.

    The lock also ends with this process.

    Its messages call it what it will be `named`, where it is not yet.
    Warns where the file system has no locks: nothing then keeps a second process out. Raises
    RunError naming the owner where another process holds it, FileNotFoundError where one deleted
    it just now.
    """
    named = named or folder
    file = open(folder / ".lock", "a+", opener=no_link)  # noqa: SIM115 (held open on purpose)
    try:
        locked = _lock(file)
        if locked is False:
            owner = _owner(file) or "another process"
            raise RunError(f"{named}: in use by {owner}; wait for it, or stop it")
        if locked is None:
            last = f" (the last to write was {owner})" if (owner := _owner(file)) else ""
            warnings.warn(
                f"{named}: its file system has no locks, so nothing keeps a second process out; "
                f"start no other one there before this one has ended{last}",
                RunWarning,
                stacklevel=3,
            )
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
        file.flush()
    except BaseException:
        with suppress(OSError):  # a full disk, the error that is raised
            file.close()
        raise
    return file


def discard(folder: Path) -> None:
    """Deletes a folder that a killed process left, unless it may be locked."""
    with suppress(OSError), open(folder / ".lock", "a+", opener=no_link) as file:
        if _lock(file):
            shutil.rmtree(folder, ignore_errors=True)


def _lock(file: IO[str]) -> bool | None:
    """Whether this process now has a file's lock; None on a disk without locks."""
    try:
        locked = lock_descriptor(file.fileno(), blocking=False)
    except OSError as error:
        if error.errno in LOCKLESS:
            return None
        raise
    # Between our opening it and our locking it, `discard` may have deleted it.
    if locked and os.fstat(file.fileno()).st_nlink == 0:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return locked


def _owner(file: IO[str]) -> str:
    try:
        file.seek(0)
        return file.read(200).strip()
    except OSError:  # Windows lets nobody else read what is locked
        return ""
