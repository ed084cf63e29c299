"""Finds the files of a data set where users already have them, or downloads them.

Every root is searched alike, for each folder in which torchvision, Keras, Debian, or a user
keeps a copy; a copy counts by its unpacked content, never by its name. The environment:
TWINCAPS_DATA names one more root, TWINCAPS_OFFLINE=1 forbids downloads.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from parity.data.formats import packed
from parity.data.splits import DataError, NotFoundError

SYSTEM = Path("/usr/share/datasets")  # Debian's packages dataset-*
TIMEOUT = 10.0  # seconds without a byte

Contents = dict[str, bytes]


@dataclass(frozen=True)
class Copy:
    """A whole copy: its folder or archive, and the unpacked content by name."""

    place: Path
    contents: Contents


@dataclass(frozen=True)
class File:
    """A file's usual name, and the size and MD5 of its unpacked content, if known."""

    name: str
    size: int | None
    md5: str | None


@dataclass(frozen=True)
class Archive:
    """One file that holds all the others, and how to read them out of it."""

    name: str
    read: Callable[[Path], Contents]


@dataclass(frozen=True)
class Source:
    """The files of a data set.

    Attributes:
        folders: Where they lie below a root, "" for the root itself.
        url: What the names in `remote` are appended to, "" if nobody may download them.
        archive: The same files in one.
        others: Files of other names and formats with the same data; the reader knows them by name.
    """

    name: str
    files: tuple[File, ...]
    folders: tuple[str, ...]
    url: str
    remote: tuple[str, ...]
    archive: Archive | None = None
    others: tuple[tuple[File, ...], ...] = ()


def find(source: Source, data_dir: Path | None = None) -> Copy:
    """The first whole copy, or one that is downloaded.

    A copy that is there but not whole is an error in the `data_dir` that the user named, and
    passed over elsewhere. Raises DataError with every place and URL tried, and the fix.
    """
    tried: list[str] = []
    return _search(source, data_dir, tried) or _download(source, tried)


def look(source: Source, data_dir: Path | None = None) -> Path:
    """Where a copy is, by the names and sizes of its files; nothing is unpacked.

    Raises DataError as `find` does, and NotFoundError instead of downloading.
    """
    tried: list[str] = []
    copy = _search(source, data_dir, tried, whole=False)
    if copy is None:
        places = "\n  ".join(tried)
        raise NotFoundError(f"{source.name}: no copy found; looked in\n  {places}")
    return copy.place


def _search(
    source: Source, data_dir: Path | None, tried: list[str], whole: bool = True
) -> Copy | None:
    """The first copy found; the places searched before it are added to `tried`."""
    if data_dir is not None and not os.path.isdir(data_dir):
        raise DataError(
            f"{source.name}: the data folder {data_dir} is no folder; name the one that holds "
            f"{_wanted(source)}, or leave it out to look in the usual places"
        )
    for root in ([] if data_dir is None else [data_dir]) + _roots():
        faults: list[str] = []
        for folder in source.folders:
            copy = _copy(source, root / folder, faults, whole)
            if copy is not None:
                return copy
        if faults and root == data_dir:
            raise DataError(
                f"{source.name}: the copy in {data_dir} is not whole:\n  "
                + "\n  ".join(faults)
                + "\nput the original files there, or leave the folder out to look in the usual "
                "places"
            )
        below = ", ".join(folder or "." for folder in source.folders)
        tried += [f"{root} (and in it {below})", *faults]
    return None


def cache() -> Path | None:
    """The folder of downloads and compiled code: `twincaps` in the user's cache.

    That is $XDG_CACHE_HOME, or else ~/.cache.

    None where the user has no home. A relative XDG_CACHE_HOME counts as unset, as its
    specification asks: https://specifications.freedesktop.org/basedir-spec/latest/
    """
    named = os.environ.get("XDG_CACHE_HOME", "")
    base = named if os.path.isabs(named) else os.path.expanduser("~/.cache")
    return Path(base) / "twincaps" if os.path.isabs(base) else None


def _roots() -> list[Path]:
    named = os.environ.get("TWINCAPS_DATA")
    keras = Path(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras"))
    usual = [keras / "datasets", keras, SYSTEM]
    usual = [root for root in usual if root.parts[0] != "~"]  # which stays where there is no home
    if (user_cache := cache()) is not None:
        usual.append(user_cache)
    return [Path(os.path.expanduser(named)), *usual] if named else usual


def _wanted(source: Source) -> str:
    names = ", ".join(file.name for file in source.files)
    return f"{names} (.gz or not)" + (f", or {source.archive.name}" if source.archive else "")


def _copy(source: Source, folder: Path, faults: list[str], whole: bool = True) -> Copy | None:
    """The copy in a folder, if there is one; its faults are added to `faults`.

    Without `whole` it is one by its names and sizes, and its content is left out.
    """
    for files in (source.files, *source.others):
        contents = _together(files, folder, faults, whole)
        if contents is not None:
            return Copy(folder, contents)
    if source.archive is None:
        return None
    path = folder / source.archive.name
    if not os.path.isfile(path):
        return None
    contents = _unpacked(source, path, source.archive, faults) if whole else {}
    return None if contents is None else Copy(path, contents)


def _together(
    files: tuple[File, ...], folder: Path, faults: list[str], whole: bool
) -> Contents | None:
    contents: Contents = {}
    missing = []
    for file in files:
        paths = [path for path in _names(folder, file) if os.path.isfile(path)]
        content = _content(file, paths, faults, whole)
        if content is not None:
            contents[file.name] = content
        elif not paths:
            missing.append(f"{folder / file.name}: is missing beside the others")
    if len(contents) == len(files):
        return contents
    if len(missing) < len(files):
        faults += missing
    return None


def _names(folder: Path, file: File) -> list[Path]:
    dotted = file.name.replace("-idx", ".idx")  # as some mirrors have it
    return [
        folder / (name + end) for name in dict.fromkeys((file.name, dotted)) for end in ("", ".gz")
    ]


def _content(file: File, paths: list[Path], faults: list[str], whole: bool) -> bytes | None:
    """The content of the first path that passes; without `whole`, by size alone."""
    for path in paths:
        try:
            content = packed.read(path, file.size) if whole else b""
            if whole:
                _check(file, content, str(path))
            else:
                _check_size(file, packed.length(path), str(path))
        except DataError as error:
            faults.append(str(error))
        else:
            return content
    return None


def _unpacked(source: Source, path: Path, archive: Archive, faults: list[str]) -> Contents | None:
    try:
        contents = archive.read(path)
        for file in source.files:
            if file.name not in contents:
                raise DataError(f"{path}: holds no {file.name}")
            _check(file, contents[file.name], f"{path}: {file.name}")
    except DataError as error:
        faults.append(str(error))
        return None
    return {file.name: contents[file.name] for file in source.files}


def _check_size(file: File, size: int, what: str) -> None:
    if file.size is not None and size != file.size:
        raise DataError(f"{what}: holds {size} bytes unpacked, expected {file.size}")


def _check(file: File, content: bytes, what: str) -> None:
    _check_size(file, len(content), what)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() if file.md5 else None
    if md5 != file.md5:
        raise DataError(f"{what}: its unpacked content has MD5 {md5}, expected {file.md5}")


def _download(source: Source, tried: list[str]) -> Copy:
    """Downloads to a temporary folder, checks, then moves each file into place."""
    places = "\n  ".join(tried)
    looked = f"{source.name}: no whole copy found; looked in\n  {places}\n"
    fix = (
        f"put {_wanted(source)} in one folder and name it with --data-dir, data_dir= or "
        "TWINCAPS_DATA; mnist-mini needs no files"
    )
    if not source.url:
        raise NotFoundError(f"{looked}it has no download; {fix}")
    if os.environ.get("TWINCAPS_OFFLINE", "0") not in ("", "0"):
        raise NotFoundError(
            f"{looked}TWINCAPS_OFFLINE forbids the download from {source.url}; {fix}"
        )
    store = cache()
    if store is None:
        raise NotFoundError(
            f"{looked}there is no home to keep a download from {source.url} in; set "
            f"XDG_CACHE_HOME to a folder, or {fix}"
        )
    try:
        store.mkdir(parents=True, exist_ok=True)
        beside = tempfile.TemporaryDirectory(prefix=f".{source.name}-", dir=store)
    except OSError as error:
        raise NotFoundError(
            f"{looked}a download from {source.url} would be kept in {store}, which cannot be "
            f"written ({error.strerror or error}); set XDG_CACHE_HOME to another folder, or {fix}"
        ) from error
    import http.client

    url = source.url
    try:
        with beside as folder:
            for name in source.remote:
                url = source.url + name
                _fetch(url, Path(folder) / name)
            url, faults = source.url, []
            fetched = _copy(source, Path(folder), faults)
            if fetched is None:
                listed = "\n  ".join(faults)
                raise DataError(f"{looked}what came from {url} is not it:\n  {listed}\n{fix}")
            place = store / source.name
            place.mkdir(exist_ok=True)
            for name in source.remote:
                os.replace(Path(folder) / name, place / name)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"{looked}the download of {url} failed ({error}); {fix}") from error
    return Copy(place, fetched.contents)


def _fetch(url: str, path: Path) -> None:
    import urllib.request

    print(f"downloading {url}", file=sys.stderr)
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, open(path, "wb") as file:
        shutil.copyfileobj(answer, file)
