"""Pictures arranged in folders: which are classes, which train and test.

    DIR/CLASS/*.png                            the caller parts each class
    DIR/train/CLASS/*.png  DIR/test/CLASS      training, testing too; any case of letters
    DIR/train/CLASS/*.png  DIR/val/CLASS       valid, validation, dev too: where there is no test

A name is that of its letters, however they are stored: composed and decomposed accents are one
(NFC), bytes that are no text are shown as escapes. Hidden folders and files, and those that systems
leave behind, are passed over without a word; all else that is not used is named in `notes`.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from parity.data.splits import DataError

ENDS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
# Pictures too, which are not read: a class must not shrink by them without a word.
UNREAD = {
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".jfif", ".jpe", ".apng", ".pbm", ".pnm", ".tga"),
    *(".dng", ".cr2", ".nef", ".arw", ".svg", ".psd", ".eps", ".dcm"),
}
LEFTOVERS = {"__macosx", "__pycache__", "$recycle.bin", "@eadir", "lost+found"}
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
}
UNDERSTOOD = (
    "expected a folder of pictures for each class: DIR/CLASS, or DIR/train/CLASS beside "
    "DIR/test/CLASS (or val, where there is no test)"
)
MOST = 8  # names in a message

Labelled = list[tuple[Path, int]]


@dataclass(frozen=True)
class Arrangement:
    """Names of the classes, in order, and their folders: in training and in test.

    Attributes:
        test: None where the pictures are not parted: those of `train` are all there are.
        notes: What is there and not used, and what is used for something else than its name.
    """

    names: list[str]
    train: dict[str, Path]
    test: dict[str, Path] | None
    notes: list[str] = field(default_factory=list)


def arranged(folder: Path) -> Arrangement:
    """How the pictures below a folder are arranged; DataError where that is unclear."""
    below, notes = _below(folder), []
    parts = _parts(folder, below)
    if parts is None:
        train, test = _classes(folder), None
        notes += _strays([folder])
    else:
        train, test = (_classes(part) for part in parts)
        notes += _strays([folder, *parts])
        if PARTS[parts[1].name.casefold()] == "val":
            notes.append(f"{folder}: there is no folder test: {parts[1].name} is tested on")
        if unused := [path.name for path in below if path not in parts]:
            used = " and ".join(part.name for part in parts)
            notes.append(f"{folder}: not used: {listed(unused)}; {used} are")
        _same(folder, parts, train, test)
    return Arrangement(list(train), train, test, notes)


def _parts(folder: Path, below: list[Path]) -> tuple[Path, Path] | None:
    """The folders to train and to test on; None where the folders are classes."""
    by_part: dict[str, list[Path]] = {"train": [], "test": [], "val": []}
    for path in below:
        if kind := PARTS.get(path.name.casefold()):
            by_part[kind].append(path)
    named = [*chain(*by_part.values())]
    if not any(_below(path) for path in named):
        both = by_part["train"] and (by_part["test"] or by_part["val"])
        if not named or (len(named) < len(below) and not both):  # a class is called train, say
            return None
        raise DataError(
            f"{folder}: no folders of classes in {listed(path.name for path in named)}, but "
            f"{seen(named[0])}; {UNDERSTOOD}"
        )
    chosen = []
    for kinds in (("train",), ("test", "val")):
        paths = next((by_part[kind] for kind in kinds if by_part[kind]), [])
        paths = [path for path in paths if path.name in kinds] or paths  # the plain name first
        if len(paths) > 1:
            names = listed(path.name for path in paths)
            raise DataError(f"{folder}: {names} could each be {kinds[0]}; keep one there")
        if not paths:
            (only,) = named[:1]
            raise DataError(
                f"{folder}: holds {listed(path.name for path in named)} and no folder "
                f"{kinds[0]}; {UNDERSTOOD}; to use {only.name} alone, name {only}"
            )
        chosen += paths
    return chosen[0], chosen[1]


def _classes(folder: Path) -> dict[str, Path]:
    """The folders of the classes by name, in the order of their names."""
    folders: dict[str, Path] = {}
    for path in _below(folder):
        name = shown(path.name)
        if name in folders:
            raise DataError(
                f"{folder}: two folders have one name, {folders[name].name!a} and {path.name!a} "
                "(composed and decomposed letters); move the pictures of one into the other"
            )
        folders[name] = path
    if not folders:
        raise DataError(f"{folder}: holds {seen(folder)}, no folder of a class; {UNDERSTOOD}")
    return dict(sorted(folders.items()))


def _same(folder: Path, parts: tuple[Path, Path], train: dict, test: dict) -> None:
    sides = ((parts[0], set(test) - set(train)), (parts[1], set(train) - set(test)))
    lacking = [f"{part.name} has no {listed(sorted(names))}" for part, names in sides if names]
    if lacking:
        raise DataError(
            f"{folder}: {parts[0].name} and {parts[1].name} hold different classes: "
            f"{'; '.join(lacking)}; expected the same in both"
        )


def labelled(classes: dict[str, Path], notes: list[str]) -> list[Labelled]:
    """The pictures of each class with its number; DataError for an empty class.

    What is passed over beside them is added to `notes`.
    """
    pictures_of, unread, deeper = [], Counter[str](), []
    for label, path in enumerate(classes.values()):
        pictures = _pictures(path)
        if not pictures:
            _refuse_empty(path)
        pictures_of.append([(picture, label) for picture in pictures])
        unread.update(end for file in _files(path) if (end := _end(file)) in UNREAD)
        deeper += [f"{path.name}/{file.name}" for file in _below(path) if _pictures(file)]
    part = next(iter(classes.values())).parent
    if unread:
        counts = ", ".join(f"{count} {end}" for end, count in sorted(unread.items()))
        notes.append(f"{part}: not used, as pictures of that kind are not read: {counts}")
    if deeper:
        notes.append(f"{part}: not used, as they lie deeper than a class: {listed(deeper)}")
    return pictures_of


def _refuse_empty(path: Path) -> None:
    fix = "put some there, or move the folder away if it is no class"
    if _below(path):
        fix = f"{UNDERSTOOD}, no deeper; is {path} the folder to name?"
    raise DataError(
        f"{path}: this class has no picture ({' '.join(sorted(ENDS))}), it holds {seen(path)}; "
        f"{fix}"
    )


def seen(folder: Path) -> str:
    """What a folder holds, in words."""
    below, pictures = _below(folder), _pictures(folder)
    others = Counter(end for path in _files(folder) if (end := _end(path)) not in ENDS)
    ends = ", ".join(end or "no ending" for end in sorted(others)[:MOST])
    counts = [
        f"folders ({listed(path.name for path in below)})" if below else "",
        f"{len(pictures)} pictures" if pictures else "",
        f"{others.total()} other files ({ends})" if others else "",
    ]
    return " and ".join(filter(None, counts)) or "nothing"


def shown(name: str) -> str:
    """The name of a folder as text that can be printed, the same on every system."""
    return unicodedata.normalize("NFC", name.encode("utf-8", "backslashreplace").decode())


def listed(names: Iterable[str]) -> str:
    """Some names for a message: quoted, with code points where they are not plain."""
    names = [repr(name) if name.isascii() else f"{shown(name)!r} ({name!a})" for name in names]
    more = len(names) - MOST
    return ", ".join(names[:MOST]) + (f" and {more} more" if more > 0 else "")


def _strays(folders: Iterable[Path]) -> list[str]:
    return [
        f"{folder}: not used, as they lie beside the folders of the classes: {count} pictures"
        for folder in folders
        if (count := len(_pictures(folder)))
    ]


def _below(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir()]


def _files(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if not path.is_dir()]


def _pictures(folder: Path) -> list[Path]:
    return [path for path in _files(folder) if _end(path) in ENDS]


def _end(path: Path) -> str:
    return path.suffix.lower()


def _entries(folder: Path) -> list[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror or error})") from error
    return [
        path
        for path in paths
        if not path.name.startswith(".") and path.name.casefold() not in LEFTOVERS
    ]
