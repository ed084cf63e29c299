"""The files that twincaps writes: weights, runs, checkpoints, traces. Checksums cover them.

Those "signed again" have other values under a checksum that is right: only a reader that looks at
every value itself refuses them.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import fakes
import numpy as np
import safetensors.numpy

from fuzz.mutate import changed
from fuzz.reader import Reader, any_result, only_whole
from parity import loop, weights
from parity.compare import subject, tasks
from parity.figures import curves
from parity.runs import Run, checkpoints
from parity.spec import to_dict
from parity.traces import recording
from parity.weights import digest

NEWEST = "checkpoints/step-00000015"


def a_run(name: str, folder: Path) -> list[bytes]:
    """The folder becomes a run of the fake Trainer."""
    with Run.create(folder / "run", fakes.SPEC, fakes.TRAINING) as run:
        loop.train(fakes.Trainer(), fakes.dataset(), run, progress=False)
    shutil.copytree(folder / "run", folder, dirs_exist_ok=True)
    return [(folder / name).read_bytes()]


def a_trace(folder: Path) -> list[bytes]:
    """A trace with a few tensors, whatever they are of."""
    request: dict[str, Any] = dict.fromkeys(recording.REQUEST, 0)
    request |= {"spec": to_dict(fakes.SPEC), "backend": "torch", "mode": "usual", "device": "cpu"}
    values = {name: np.arange(6.0).reshape(2, 3) for name in ("image", "stem.0", "poses")}
    made = recording.make(request, {"torch": "2"}, (values, values), np.arange(2))
    made.save(folder / "t.safetensors")
    return [(folder / "t.safetensors").read_bytes()]


def an_answer(folder: Path) -> list[bytes]:
    header = {"format": tasks.FORMAT, "schema": weights.SCHEMA, "seconds": [0.5]}
    weights.save_arrays(folder / "a.safetensors", {"x": np.ones((2, 3))}, header)
    return [(folder / "a.safetensors").read_bytes()]


def a_subject(folder: Path) -> list[bytes]:
    subject.of(fakes.SPEC, fakes.TRAINING).save(folder / "s.safetensors")
    return [(folder / "s.safetensors").read_bytes()]


def opened(file: Path) -> Any:
    """A run by its folder: both of its descriptions."""
    with Run.open(file.parent, read_only=True) as run:
        return run


def told(file: Path) -> Any:
    """The lines of a run, as figures show them."""
    with Run.open(file.parent, read_only=True) as run:
        lines = run.metrics()
    return lines, curves.curves(lines)


def of_lines(result: Any, content: bytes, whole: list[bytes]) -> bool:
    lines, _ = result
    return len(lines) <= content.count(b"\n") and all(type(x["step"]) is int for x in lines)


def cut_back(file: Path) -> Any:
    """As a resume does it; what is left must be whole lines up to the checkpoint."""
    with Run.open(file.parent) as run:
        run.cut_metrics(run.newest())
        return run.metrics()


def signed(draw: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A JSON file of ours with other values and a checksum that is right."""
    values = json.loads(content)
    head = {key: values.pop(key) for key in ("format", "schema", "sha256")}
    values = changed(draw, values)
    if not isinstance(values, dict):
        values = {"spec": values}
    values |= {key: head[key] for key in ("format", "schema")}
    values["sha256"] = digest({}, values)
    return (json.dumps(values, indent=1, sort_keys=True) + "\n").encode()


def headed(draw: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """A safetensors file of ours with another header, names or shapes, and a right checksum."""
    arrays = safetensors.numpy.load(content)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["twincaps"])
    if draw.random() < 0.3:
        name = draw.choice(list(arrays))
        array = arrays.pop(name)
        other = draw.choice(
            (array[:1], array.reshape(-1), array.astype(np.int16), array[None], array * np.nan)
        )
        arrays[draw.choice((name, name, "../x", "a" * 300))] = np.ascontiguousarray(other)
    else:
        kept = {key: header[key] for key in ("format", "schema")}
        header = changed(draw, {k: v for k, v in header.items() if k not in ("sha256", *kept)})
        header = {**(header if isinstance(header, dict) else {"spec": header}), **kept}
    text = json.dumps({**header, "sha256": digest(arrays, header)}, sort_keys=True)
    try:
        return safetensors.numpy.save(arrays, metadata={"twincaps": text})
    except UnicodeEncodeError:  # half a character, which no file can hold
        return content


def optimizer(file: Path) -> Any:
    return weights.load_arrays(file, checkpoints.OPTIMIZER)


def whole_checkpoint(file: Path) -> Any:
    return checkpoints.read(file.parent, fakes.SPEC)


def state(file: Path) -> Any:
    return checkpoints.read_state(file.parent)


def answer(file: Path) -> Any:
    return weights.load_arrays(file, tasks.FORMAT)


def _of_run(title: str, file: str, read: Callable[[Path], Any], right: Any, count: int) -> Reader:
    return Reader(title, file, partial(a_run, file), read, right, count)


def _resigned(reader: Reader, count: int) -> Reader:
    """The same, signed again."""
    how = signed if reader.file.endswith(".json") else headed
    name = f"{reader.name}, signed again"
    return replace(reader, name=name, right=any_result, count=count, mutate=how)


W, OPT, S = (
    f"{NEWEST}/{n}" for n in ("weights.safetensors", "optimizer.safetensors", "state.json")
)
M = "metrics.jsonl"
WEIGHTS = _of_run("weights", W, weights.load, only_whole, 6000)
STATE = _of_run("state.json", S, state, only_whole, 6000)
SPEC = _of_run("spec.json", "spec.json", opened, only_whole, 5000)
TRAINING = _of_run("training.json", "training.json", opened, only_whole, 5000)
TRACE = Reader("a trace", "t.safetensors", a_trace, recording.load, only_whole, 3000)
SUBJECT = Reader("a subject", "s.safetensors", a_subject, subject.load, only_whole, 1000)
ROWS = (
    WEIGHTS,
    _resigned(WEIGHTS, 3000),
    _of_run("optimizer state", OPT, optimizer, only_whole, 4000),
    _of_run("a checkpoint, by its weights", W, whole_checkpoint, only_whole, 3000),
    _of_run("a checkpoint, by its optimizer state", OPT, whole_checkpoint, only_whole, 3000),
    STATE,
    _resigned(STATE, 5000),
    SPEC,
    _resigned(SPEC, 5000),
    TRAINING,
    _resigned(TRAINING, 5000),
    _of_run(M, M, told, of_lines, 4000),
    _of_run(f"{M}, cut back", M, cut_back, any_result, 1000),
    TRACE,
    _resigned(TRACE, 3000),
    Reader("an answer", "a.safetensors", an_answer, answer, only_whole, 3000),
    _resigned(SUBJECT, 1000),
)
