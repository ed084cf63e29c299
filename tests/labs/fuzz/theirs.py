"""Weights in the files of others: .pt, .msgpack, .h5, .npz, safetensors of anybody."""

import importlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import wings
from specs import PRIMES, TINY
from weight_files import draw as drawn

from fuzz.mutate import inside_zip, mutated
from fuzz.reader import Mutate, Reader, any_result
from parity import weights
from parity.convert import convert, describe, formats

LIMIT = 64 << 20  # bytes, of what such small files can hold


def small(result: Any, content: bytes, whole: list[bytes]) -> bool:
    """No file of a few kB holds more than this."""
    return sum(array.nbytes for array in result.tensors.values()) <= LIMIT


def of_format(to: str, file: str) -> Callable[[Path], list[bytes]]:
    """Two networks as `convert` writes them."""

    def make(folder: Path) -> list[bytes]:
        contents = []
        for n, spec in enumerate((TINY, PRIMES)):
            place = folder / f"made-{n}"
            place.mkdir()
            weights.save(place / "source.safetensors", spec, drawn(spec))
            convert(place / "source.safetensors", place / file, to=to)
            contents.append((place / file).read_bytes())
        return contents

    return make


def bare_pt(folder: Path) -> list[bytes]:
    """state_dicts without a header, in the newer format and in that of before 1.6."""
    import torch

    held = {"conv1.weight": torch.arange(6.0).reshape(2, 3), "conv1.bias": torch.ones(2)}
    contents = []
    for newer in (True, False):
        file = io.BytesIO()
        torch.save({"model": held, "epoch": 3}, file, _use_new_zipfile_serialization=newer)
        contents.append(file.getvalue())
    return contents


def bare_msgpack(folder: Path) -> list[bytes]:
    from flax import serialization

    tree = {"stem": {"0": {"kernel": np.ones((2, 3), "f4")}}, "digit": {"bias": np.zeros(2, "i2")}}
    return [serialization.msgpack_serialize({"params": tree})]


def h5(folder: Path) -> list[bytes]:
    contents = []
    for options in ({}, {"compression": "gzip", "chunks": (2, 3)}):
        file = io.BytesIO()
        with h5py.File(file, "w") as held:
            group = held.create_group("model_weights/conv1/conv1")
            group.create_dataset("kernel:0", data=np.ones((4, 3), "f4"), **options)
            group.create_dataset("bias:0", data=np.ones(3, "f4"))
        contents.append(file.getvalue())
    return contents


def npz(folder: Path) -> list[bytes]:
    contents = []
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, **{"conv1/weights": np.ones((2, 3), "f4"), "conv1/biases": np.ones(3)})
        contents.append(file.getvalue())
    return contents


def inside_either(draw: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Inside a zip, or in the format of before, which is none."""
    return (inside_zip if content.startswith(b"PK") else mutated)(draw, content, others)


def _row(
    name: str,
    file: str,
    make: Callable[[Path], list[bytes]],
    count: int,
    read: Callable[[Path], Any] = formats.read,
    mutate: Mutate = mutated,
) -> Reader:
    def prepared(folder: Path) -> list[bytes]:
        for wing in wings.NAMES:  # which an altered file may come to need
            importlib.import_module(f"{wings.PACKAGES[wing]}.weights")
        return make(folder)

    right = small if read is formats.read else any_result
    return Reader(name, file, prepared, read, right, count, 512, mutate)


PT, MSGPACK, SAFE = ("torch", "w.pt"), ("flax", "w.msgpack"), ("torch", "w.safetensors")
ROWS = (
    _row("PyTorch's .pt", "w.pt", bare_pt, 3000, mutate=inside_either),
    _row("PyTorch's .pt, inspected", "w.pt", of_format(*PT), 1500, describe, inside_zip),
    _row("Flax's .msgpack", "w.msgpack", bare_msgpack, 5000),
    _row("Flax's .msgpack, inspected", "w.msgpack", of_format(*MSGPACK), 2000, describe),
    _row("Keras' .h5", "w.h5", h5, 4000),
    _row(".npz of TensorFlow", "w.npz", npz, 3000, mutate=inside_zip),
    _row("safetensors of PyTorch, inspected", "w.safetensors", of_format(*SAFE), 3000, describe),
)
