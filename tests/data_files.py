"""For the tests of data sets: a home without any, and the sources of small files written there."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from parity.data import locate

SETTINGS = ("TWINCAPS_DATA", "KERAS_HOME", "XDG_CACHE_HOME", "http_proxy", "HTTP_PROXY")


def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes this the user's home: no data sets, no network, none of their own settings."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TWINCAPS_OFFLINE", "1")
    monkeypatch.setattr(locate, "SYSTEM", tmp_path / "debian")
    return tmp_path / "home"


def expected(contents: Mapping[str, bytes]) -> tuple[locate.File, ...]:
    """The rows of a source whose files have just this content."""
    return tuple(
        locate.File(name, len(content), hashlib.md5(content, usedforsecurity=False).hexdigest())
        for name, content in contents.items()
    )


def write(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """Writes the files; returns their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder
