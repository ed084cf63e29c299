"""Weights in a safetensors file: canonical names, JSON header, sha256."""

import errno
import hashlib
import importlib.resources
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 (registers bfloat16 with numpy, which safetensors needs)
import numpy as np
import safetensors
import safetensors.numpy

from parity.spec import NetworkSpec, TrainedOn, from_dict, to_dict
from parity.weights._table import Arrays, WeightsError, check, table

FORMAT, SCHEMA, ENDS = "twincaps-weights", 1, ".safetensors"

# What the call to a file system answers that has no such thing: network ones lack this and that.
UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}

# What safetensors, NumPy and JSON raise for one altered byte or another.
NOT_SAFETENSORS = (
    *(safetensors.SafetensorError, ValueError, OSError, KeyError, TypeError, RecursionError),
    AttributeError,
)


def digest(arrays: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> str:
    """SHA-256 over names, dtypes, shapes, bytes, and `header` without its own sha256."""
    plain = {key: value for key, value in header.items() if key != "sha256"}
    total = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        total.update(f"{name} {array.dtype} {list(array.shape)} ".encode())
        total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def write_whole(path: str | os.PathLike, content: bytes) -> None:
    """Overwrites a file, which at every instant holds the old or the new content."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            flush(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def flush(handle: int) -> None:
    """Asks the disk to keep an open file or folder, where its file system can."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def save_arrays(path: str | os.PathLike, arrays: Arrays, header: Mapping[str, Any]) -> str:
    """Writes arrays and a JSON header under the key `twincaps`.

    Returns the sha256 in the header.

    The same content gives the same bytes. Overwrites `path`, whole or not at all.
    """
    solid = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    sha256 = digest(solid, header)
    text = json.dumps({**header, "sha256": sha256}, sort_keys=True)
    write_whole(path, safetensors.numpy.save(solid, metadata={"twincaps": text}))
    return sha256


def read_arrays(path: str | os.PathLike) -> tuple[Arrays, Any]:
    """The arrays and header (or None) of a safetensors file, not yet verified."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; expected a .safetensors file of twincaps")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return arrays, json.loads(metadata.get("twincaps", "null"))
    except NOT_SAFETENSORS as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error})") from error


def verify(path: str | os.PathLike, arrays: Arrays, header: Any, kind: str) -> None:
    """Raises WeightsError unless a header is of this kind, schema and these arrays."""
    if not isinstance(header, dict) or header.get("format") != kind:
        file_kind = header.get("format") if isinstance(header, dict) else None
        raise WeightsError(
            f"{path}: holds {file_kind or 'no twincaps header'}, expected {kind}; "
            "`python -m parity convert` reads files of other kinds"
        )
    if header.get("schema") != SCHEMA:
        raise WeightsError(
            f"{path}: schema version {header.get('schema')}, this twincaps reads {SCHEMA}; "
            "use the twincaps that wrote it"
        )
    if header.get("sha256") != digest(arrays, header):
        raise WeightsError(f"{path}: its content does not match its sha256; it was altered")


def load_arrays(path: str | os.PathLike, kind: str) -> tuple[Arrays, dict[str, Any]]:
    """The arrays and header of a file of `save_arrays`; raises WeightsError."""
    arrays, header = read_arrays(path)
    verify(path, arrays, header, kind)
    return arrays, header


def save(
    path: str | os.PathLike, spec: NetworkSpec, arrays: Arrays, trained_on: TrainedOn | None = None
) -> str:
    """Writes a network's weights, and what it was trained on where that is known.

    Strict about names, shapes and dtypes. Returns the sha256.
    """
    check(arrays, table(spec))
    axes = {name: row.axes for name, row in table(spec).items()}
    header = {"format": FORMAT, "schema": SCHEMA, "axes": axes, "spec": to_dict(spec)}
    if trained_on is not None:
        header["trained_on"] = to_dict(trained_on)
    return save_arrays(path, arrays, header)


def load(path: str | os.PathLike) -> tuple[NetworkSpec, Arrays]:
    """The spec and weights of a file of `save`; raises WeightsError."""
    return load_known(path)[:2]


def load_known(path: str | os.PathLike) -> tuple[NetworkSpec, Arrays, TrainedOn | None]:
    """As `load`, and what the network was trained on; None if the file lacks it."""
    arrays, header = load_arrays(path, FORMAT)
    spec = from_dict(NetworkSpec, header.get("spec"))
    check(arrays, table(spec), str(path))
    axes = {name: row.axes for name, row in table(spec).items()}
    if header.get("axes") != axes:
        raise WeightsError(f"{path}: axes {header.get('axes')}, expected {axes}")
    plain = header.get("trained_on")
    trained_on = None if plain is None else from_dict(TrainedOn, plain)
    return spec, {name: arrays[name] for name in axes}, trained_on


def trained_on(path: str | os.PathLike) -> TrainedOn | None:
    """What the network of a file was trained on; None if the file lacks it."""
    return load_known(path)[2]


def _pretrained() -> Any:
    """The folder of the package's own networks; imports nothing of it."""
    return importlib.resources.files("parity") / "saved" / "pretrained"


def pretrained_names() -> list[str]:
    """The networks that come with this package, sorted."""
    files = _pretrained().iterdir()
    return sorted(file.name.removesuffix(ENDS) for file in files if file.name.endswith(ENDS))


def pretrained_file(name: str) -> Path:
    """The file of one of them; raises WeightsError with the known names."""
    if name not in (names := pretrained_names()):
        raise WeightsError(
            f"no network {name!r} comes with twincaps; expected one of {', '.join(names)}"
        )
    return Path(str(_pretrained() / f"{name}{ENDS}"))


def load_pretrained(name: str) -> tuple[NetworkSpec, Arrays]:
    """The spec and weights of one of them; raises WeightsError with the known names."""
    return load(pretrained_file(name))
