"""Checks a .pt file before torch reads it: its sizes must fit its length.

torch.load(weights_only=True) runs nothing of a file, but it takes the sizes in it on trust.
"""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

from parity.data.formats import packed, pickled
from parity.weights import WeightsError

# Bytes of a number in each of torch's kinds of storage.
SIZES = {
    **dict.fromkeys(("ByteStorage", "CharStorage", "BoolStorage", "UntypedStorage"), 1),
    **dict.fromkeys(("ShortStorage", "HalfStorage", "BFloat16Storage"), 2),
    **dict.fromkeys(("IntStorage", "FloatStorage"), 4),
    **dict.fromkeys(("LongStorage", "DoubleStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}
LEGACY = 5  # pickles of a file of before version 1.6: a number, versions, system, content, keys


class _Nothing(dict):
    """Stands for whatever a pickle names or makes: takes everything, does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __call__(self, *_: Any, **__: Any) -> "_Nothing":
        return self

    def __setstate__(self, state: Any) -> None:
        """Forgets it."""

    def append(self, item: Any) -> None:
        """Forgets it."""

    def extend(self, items: Any) -> None:
        """Forgets them."""


class _Sizes(pickle.Unpickler):
    """Reads from a pickle only the storages it refers to: (key, bytes) of each."""

    def __init__(self, content: io.BytesIO) -> None:
        super().__init__(content, encoding="latin1")
        self.storages: list[tuple[str, int]] = []

    def find_class(self, module_name: str, global_name: str) -> Any:
        if module_name.startswith("torch") and global_name in SIZES:
            return global_name
        return _Nothing

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            return _Nothing()
        _, kind, key, _, count = pid[:5]
        if type(kind) is not str or type(count) is not int or count < 0:
            raise ValueError(f"a storage of {kind!r}, {count!r} numbers")
        self.storages.append((str(key), count * SIZES[kind]))
        return _Nothing()


def check(path: Path) -> None:
    """Raises WeightsError unless the storages of a .pt file are as large as it says."""
    try:
        content = path.read_bytes()
        if content.startswith(b"PK"):
            _check_zip(content)
        else:
            _check_legacy(content)
    except Exception as error:  # a broken pickle may raise anything
        raise WeightsError(
            f"{path}: refused ({error}); expected a whole file of "
            "torch.save(model.state_dict(), path): tensors alone, nothing that runs code"
        ) from error


def _check_zip(file: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        packed.refuse_swollen(archive, len(file))
        members = {entry.filename: entry for entry in archive.infolist()}
        names = [name for name in members if name.endswith("data.pkl")]
        if len(names) != 1 or len(members) != len(archive.infolist()):
            raise ValueError(f"{len(names)} files data.pkl among {len(archive.infolist())}")
        folder = names[0].removesuffix("data.pkl")
        content = archive.read(names[0])
        pickled.refuse_swollen(content)
        reader = _Sizes(io.BytesIO(content))
        reader.load()
        for key, size in reader.storages:
            member = members.get(f"{folder}data/{key}")
            if member is None or member.file_size != size:
                actual = None if member is None else member.file_size
                raise ValueError(f"storage {key} is of {size} bytes, the file has {actual}")


def _check_legacy(content: bytes) -> None:
    file, total = io.BytesIO(content), 0
    for _ in range(LEGACY):
        start = file.tell()
        pickled.refuse_swollen(file)
        file.seek(start)
        reader = _Sizes(file)
        reader.load()
        total += sum(dict(sorted(reader.storages)).values())  # of two sizes, the larger
    if total > len(content) - file.tell():
        raise ValueError(f"storages of {total} bytes, the file has {len(content) - file.tell()}")
