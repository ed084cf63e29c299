"""Every tensor's name, axes and shape; the first draw; the safetensors file.

A canonical parameter is a NumPy array with a name and named axes. A wing states only its own
order of the axes; `transpose` computes the permutation from the two strings, in either direction.
"""

import hashlib
import importlib.resources
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 (registers bfloat16 with numpy, which safetensors needs)
import numpy as np
import safetensors
import safetensors.numpy

from parity.spec import NetworkSpec, TwincapsError, from_dict, to_dict

Arrays = dict[str, np.ndarray]

FORMAT, SCHEMA, ENDS = "twincaps-weights", 1, ".safetensors"
FLOATS = ("float32", "float64", "bfloat16", "float16")


# What safetensors, NumPy and JSON raise for one altered byte or another.
NOT_SAFETENSORS = (
    *(safetensors.SafetensorError, ValueError, OSError, KeyError, TypeError, RecursionError),
    AttributeError,
)


class WeightsError(TwincapsError):
    """Weights that do not fit their network, or a file that does not hold what it says."""


@dataclass(frozen=True)
class Tensor:
    """One row of the table: axes as one string, their sizes, and the first draw."""

    axes: str
    shape: tuple[int, ...]
    std: float
    value: float


def table(spec: NetworkSpec) -> dict[str, Tensor]:
    """Name -> Tensor for every parameter of a network, in the order of execution."""
    init, rows = spec.init, {}

    def pair(name: str, axes: str, shape: tuple[int, ...], std: float, bias: str, size: int):
        rows[f"{name}.kernel"] = Tensor(axes, shape, std, 0.0)
        rows[f"{name}.bias"] = Tensor(bias, (size,), 0.0, init.bias)

    channels = spec.image[2]
    for n, conv in enumerate(spec.stem):
        shape = (conv.kernel, conv.kernel, channels, conv.channels)
        pair(f"stem.{n}", "kh kw in out", shape, init.stem, "out", conv.channels)
        channels = conv.channels
    first, pose = spec.primary, (spec.classes, spec.pose)
    shape = (first.kernel, first.kernel, channels, first.channels)
    pair("primary", "kh kw in out", shape, init.primary, "out", first.channels)
    digit = (spec.num_inputs, spec.classes, first.size, spec.pose)
    rows["digit.kernel"] = Tensor("i j k d", digit, init.digit, 0.0)
    if spec.routing.bias:
        rows["digit.bias"] = Tensor("j d", pose, 0.0, init.bias)
    if spec.decoder is not None:
        width = spec.classes * spec.pose
        for n, out in enumerate((*spec.decoder, spec.num_pixels)):
            pair(f"decoder.{n}", "in out", (width, out), init.decoder, "out", out)
            width = out
    return rows


def transpose(array: Any, source: str, target: str) -> Any:
    """`array` with its axes, named by `source`, in the order of `target`: "i j k" -> "k i j"."""
    names = source.split()
    return array.transpose([names.index(axis) for axis in target.split()])


def generator(seed: int, name: str) -> np.random.Generator:
    """Random numbers that depend on (seed, name) alone: a Philox keyed by their SHA-256."""
    key = hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=np.frombuffer(key, "<u8")))


def draw(spec: NetworkSpec, seed: int) -> Arrays:
    """The first weights of `seed`, float32; each tensor from a Philox keyed by (seed, its name).

    Kernels are normal, cut at two standard deviations by drawing again, as in the authors' code;
    biases are constant. A tensor's values do not depend on which others the network has.
    """
    return {name: _first(row, seed, name) for name, row in table(spec).items()}


def _first(row: Tensor, seed: int, name: str) -> np.ndarray:
    if row.std == 0:
        return np.full(row.shape, row.value, np.float32)
    random = generator(seed, name)
    values = random.standard_normal(row.shape)
    while (far := np.abs(values) > 2).any():
        values[far] = random.standard_normal(int(far.sum()))
    return (values * row.std).astype(np.float32)


# The arrays an optimiser keeps for each parameter, the same in both wings.
SLOTS = {"adam": ("adam.m", "adam.v"), "adamw": ("adam.m", "adam.v"), "sgd": ("sgd.momentum",)}
AVERAGE = "ema"


def kinds(optimizer: str, ema: float | None = None) -> tuple[str, ...]:
    """The slots of each parameter: the optimiser's, and one more where weights are averaged."""
    return SLOTS[optimizer] if ema is None else (*SLOTS[optimizer], AVERAGE)


def slots(spec: NetworkSpec, optimizer: str, ema: float | None = None) -> dict[str, Tensor]:
    """`slot/name` -> Tensor for all that a training remembers beside the weights.

    Each begins at 0, an average at the first weights.
    """
    rows = table(spec).items()
    return {f"{kind}/{name}": row for kind in kinds(optimizer, ema) for name, row in rows}


def first_slots(kinds: Iterable[str], weights: Mapping[str, np.ndarray]) -> Arrays:
    """What slots of these kinds hold before the first step: zeros, an average the weights."""
    return {
        f"{kind}/{name}": array if kind == AVERAGE else np.zeros_like(array)
        for kind in kinds
        for name, array in weights.items()
    }


def averages(optimizer: Mapping[str, np.ndarray]) -> Arrays:
    """The averaged weights among these slots, under the names of the weights; none if there are
    none.
    """
    head = f"{AVERAGE}/"
    return {n.removeprefix(head): a for n, a in optimizer.items() if n.startswith(head)}


def check(
    arrays: Mapping[str, np.ndarray], rows: Mapping[str, Tensor], what: str = "weights"
) -> None:
    """Raise WeightsError with every missing, unexpected and mis-shaped name and dtype at once."""
    faults = [f"missing {name} {row.shape}" for name, row in rows.items() if name not in arrays]
    faults += [f"unexpected {name} {a.shape}" for name, a in arrays.items() if name not in rows]
    for name in rows.keys() & arrays.keys():
        shape, dtype = tuple(arrays[name].shape), str(arrays[name].dtype)
        if shape != rows[name].shape:
            faults.append(f"{name} has shape {shape}, expected {rows[name].shape}")
        if dtype not in FLOATS:
            faults.append(f"{name} has dtype {dtype}, expected one of {', '.join(FLOATS)}")
    if faults:
        listed = "\n  ".join(sorted(faults))
        raise WeightsError(f"{what}: {len(faults)} names do not fit this network:\n  {listed}")


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
    """Write a file so that at every instant it holds its old content or all of the new."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def save_arrays(path: str | os.PathLike, arrays: Arrays, header: Mapping[str, Any]) -> str:
    """Write arrays and one JSON header under the key `twincaps`; returns the sha256 in it.

    The same content gives the same bytes. Overwrites `path`, whole or not at all.
    """
    solid = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    sha256 = digest(solid, header)
    text = json.dumps({**header, "sha256": sha256}, sort_keys=True)
    write_whole(path, safetensors.numpy.save(solid, metadata={"twincaps": text}))
    return sha256


def read_arrays(path: str | os.PathLike) -> tuple[Arrays, Any]:
    """Arrays and header of any safetensors file, not yet verified; None where it has no header."""
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
    """Raise WeightsError unless a header is of this kind and schema and of these very arrays."""
    if not isinstance(header, dict) or header.get("format") != kind:
        found = header.get("format") if isinstance(header, dict) else None
        raise WeightsError(
            f"{path}: holds {found or 'no twincaps header'}, expected {kind}; "
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
    """Arrays and header of a file of `save_arrays`; raises WeightsError where a check fails."""
    arrays, header = read_arrays(path)
    verify(path, arrays, header, kind)
    return arrays, header


def save(path: str | os.PathLike, spec: NetworkSpec, arrays: Arrays) -> str:
    """Write a network's weights; strict about names, shapes and dtypes. Returns the sha256."""
    check(arrays, table(spec))
    axes = {name: row.axes for name, row in table(spec).items()}
    header = {"format": FORMAT, "schema": SCHEMA, "axes": axes, "spec": to_dict(spec)}
    return save_arrays(path, arrays, header)


def load(path: str | os.PathLike) -> tuple[NetworkSpec, Arrays]:
    """The spec and weights of a file of `save`; raises WeightsError where a check fails."""
    arrays, header = load_arrays(path, FORMAT)
    spec = from_dict(NetworkSpec, header.get("spec"))
    check(arrays, table(spec), str(path))
    axes = {name: row.axes for name, row in table(spec).items()}
    if header.get("axes") != axes:
        raise WeightsError(f"{path}: axes {header.get('axes')}, expected {axes}")
    return spec, {name: arrays[name] for name in axes}


def pretrained_names() -> list[str]:
    """The networks that come with this package, sorted."""
    held = importlib.resources.files("parity.pretrained").iterdir()
    return sorted(file.name.removesuffix(ENDS) for file in held if file.name.endswith(ENDS))


def load_pretrained(name: str) -> tuple[NetworkSpec, Arrays]:
    """The spec and weights of one of them; raises WeightsError with the known names."""
    if name not in (names := pretrained_names()):
        raise WeightsError(
            f"no network {name!r} comes with twincaps; expected one of {', '.join(names)}"
        )
    file = importlib.resources.files("parity.pretrained") / f"{name}{ENDS}"
    with importlib.resources.as_file(file) as path:
        return load(path)
