"""Write what users of version 0.1.0 have saved: runs, files of weights, and converted ones.

    python tests/golden/saved/make_saved.py FOLDER

It was run once, with the code of version 0.1.0 (commit 50e1e9f), and its files are kept for good:
each later version must go on loading them, so FOLDER has to be without SHA256SUMS. `dataset` and
the tables say what the files are made of, and `tests/runs/test_saved.py` goes on with them.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from parity import loop, weights
from parity.convert import convert
from parity.data import Dataset, from_arrays
from parity.loop.signals import Stopped
from parity.runs import Run
from parity.spec import Conv, Init, Loss, NetworkSpec, Primary, Routing, RunOptions, TrainingSpec

TESTS = Path(__file__).resolve().parents[2]
WINGS = {"torch": "torch_caps", "jax": "jax_caps"}
SUMS = "SHA256SUMS"

# 7x11x2 -> 5 channels, 5x9 -> 2x3 places of 2 types of 5 = 12 inputs -> 3 poses of 2
SPEC = NetworkSpec(
    image=(7, 11, 2),
    stem=(Conv(5, 3),),
    primary=Primary(types=2, size=5, kernel=2, stride=3),
    classes=3,
    pose=2,
    routing=Routing(bias=True),
    decoder=(5,),
)
# Every option away from its default: 13x11x2 -> 11x9 -> 5x4 -> 2x1 places of 3 types of 5
OPTIONS = NetworkSpec(
    image=(13, 11, 2),
    stem=(Conv(3, 3), Conv(7, 2, 2)),
    primary=Primary(types=3, size=5, kernel=3, stride=2, scale=1 / 3),
    classes=7,
    pose=2,
    routing=Routing(num_iters=2, bias=True, leaky=True, detach=True),
    decoder=(11, 5),
    loss=Loss(0.8, 0.2, 0.3, 0.7, class_mean=True, reconstruction=0.011),
    init=Init(0.03, 0.07, 0.11, 0.13, 0.17),
)
NETWORKS = {
    "plain": SPEC,
    "options": OPTIONS,
    "no-decoder": replace(SPEC, decoder=None, routing=Routing(leaky=True)),
    "no-stem": replace(SPEC, stem=(), decoder=(), routing=Routing(num_iters=1, detach=True)),
}
FLOATS = ("float32", "float64", "bfloat16")

TRAINING = TrainingSpec(
    dataset="stripes", batch_size=3, epochs=1, learning_rate=0.01, decay_steps=5, shift=1, seed=7
)


@dataclass(frozen=True)
class Made:
    """A run to make: its network, what it changes in `TRAINING`, and where it is stopped, if so."""

    spec: NetworkSpec = SPEC
    changes: dict[str, Any] = field(default_factory=dict)
    stop: int | None = None
    wings: tuple[str, ...] = tuple(WINGS)


# A run that is stopped is otherwise the one of the same name: 5 steps an epoch, 3 of the second.
RUNS = {
    "adam": Made(changes={"epochs": 2}),
    "adam-stopped": Made(changes={"epochs": 2}, stop=8),
    "adamw": Made(
        replace(SPEC, routing=Routing(leaky=True)), {"optimizer": "adamw", "clip_norm": 0.5}
    ),
    "sgd": Made(replace(SPEC, decoder=None), {"optimizer": "sgd", "seed": 2**63 - 1}),
    "adam-ema": Made(replace(SPEC, routing=Routing(num_iters=2)), {"ema": 0.9}),
    "float64": Made(changes={"precision": "float64"}, wings=("torch",)),
    "bfloat16": Made(changes={"precision": "bfloat16"}, wings=("jax",)),
}
# By the command line of tests/door.py: 5 steps an epoch, SIGTERM in the second.
CLI, CLI_SIGNAL = "torch-cli-stopped", f"{int(signal.SIGTERM)}@7"
CLI_FLAGS = (
    *("--preset", "tiny", "--dataset", "tiny-stripes", "--backend", "torch", "--epochs", "2"),
    *("--batch-size", "13", "--optimizer", "sgd", "--ema", "0.9", "--clip-norm", "0.5"),
    *("--seed", "3", "--block", "7", "--checkpoint-every", "97"),
)


def dataset() -> Dataset:
    """Noise with a bright stripe, whose place is the label: 17 images to train on, 7 to test.

    The noise is bytes of SHAKE-256, which no version of NumPy makes differently.
    """

    def split(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (count, *SPEC.image)
        noise = hashlib.shake_256(name.encode()).digest(int(np.prod(shape)))
        images = np.frombuffer(noise, np.uint8).reshape(shape) // 3
        labels = np.arange(count) % SPEC.classes
        images[np.arange(count), 2 * labels + 1] = 255
        return images, labels

    return from_arrays(*split("train", 17), *split("test", 7), name=TRAINING.dataset)


def draw(spec: NetworkSpec, dtypes: tuple[str, ...]) -> weights.Arrays:
    """A random number in every place, the tensors' dtypes in turn."""
    return {
        name: weights.generator(5, name).normal(0, 1, row.shape).astype(dtypes[n % len(dtypes)])
        for n, (name, row) in enumerate(weights.table(spec).items())
    }


def _train(folder: Path, wing: str, made: Made) -> None:
    """A run of the training loop; one with a `stop` gets Ctrl-C in that step."""
    package, training = WINGS[wing], replace(TRAINING, **made.changes)
    import_module(f"{package}.numerics").strict(training.precision)
    trainer = import_module(f"{package}.training").Trainer(made.spec, training)
    step = trainer.step

    def interrupted(*batch: Any) -> dict[str, float]:
        measured = step(*batch)
        if trainer.step_count == made.stop:
            os.kill(os.getpid(), signal.SIGINT)
        return measured

    trainer.step = interrupted
    options = RunOptions(backend=wing, checkpoint_every=3 if made.stop else 0)
    with Run.create(folder, made.spec, training, options) as run:
        try:
            loop.train(trainer, dataset(), run, progress=False)
        except Stopped:
            if made.stop is None:
                raise


def _train_by_command(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as cache:
        more = {"DOOR_SIGNAL": CLI_SIGNAL, "DOOR_FIGURES": "none", "XDG_CACHE_HOME": cache}
        command = [sys.executable, TESTS / "door.py", "train", *CLI_FLAGS, "--out", folder]
        said = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": str(TESTS.parent), **more}, check=False
        )
    if said.returncode != 130:
        raise RuntimeError(f"the command line ended with {said.returncode}; expected 130")


def _runs(folder: Path, precisions: tuple[str, ...]) -> None:
    for name, made in RUNS.items():
        if made.changes.get("precision", "float32") in precisions:
            for wing in made.wings:
                _train(folder / f"{wing}-{name}", wing, made)


def _save_networks(folder: Path, precision: str) -> None:
    """Weights as each wing saves a network's: those of bfloat16 are float32."""
    for wing, package in WINGS.items():
        import_module(f"{package}.numerics").strict(precision)
        net = import_module(f"{package}.network").CapsuleNetwork(OPTIONS, 0, precision)
        save = import_module(f"{package}.weights")
        save.from_numpy(net, draw(OPTIONS, (precision,)))
        save.save(net, folder / f"{wing}-{precision}-options.safetensors")


def _save_arrays(folder: Path) -> None:
    for name, spec in NETWORKS.items():
        for dtype in FLOATS:
            weights.save(folder / f"{dtype}-{name}.safetensors", spec, draw(spec, (dtype,)))
    weights.save(folder / "mixed-options.safetensors", OPTIONS, draw(OPTIONS, weights.FLOATS))


def _convert(source: Path, folder: Path) -> None:
    """A file in every format that is written, and, where NumPy has its dtypes, as a bare .npz."""
    name = source.stem
    convert(source, folder / f"{name}.pt")
    convert(source, folder / f"{name}.torch.safetensors", to="torch")
    convert(source, folder / f"{name}.msgpack")
    convert(source, folder / f"{name}.orbax", to="orbax")
    _, arrays = weights.load(source)
    if all(array.dtype.kind == "f" for array in arrays.values()):
        np.savez(folder / f"{name}.npz", **arrays)


def files(folder: Path) -> Iterator[str]:
    """The names of what was saved, sorted."""
    for kind in ("trained", "weights", "converted"):
        found = (each for each in (folder / kind).rglob("*") if each.is_file())
        yield from sorted(each.relative_to(folder).as_posix() for each in found)


def main(folder: Path) -> None:
    """Make everything; float64 last, as it switches JAX's 64-bit types on."""
    if (folder / SUMS).exists():
        raise SystemExit(f"{folder}: holds {SUMS}; these files are kept for good")
    for kind in ("trained", "weights", "converted"):
        (folder / kind).mkdir(parents=True)
    _train_by_command(folder / "trained" / CLI)
    _save_arrays(folder / "weights")
    for name in ("float32-plain", "mixed-options"):
        _convert(folder / "weights" / f"{name}.safetensors", folder / "converted")
    for precisions in (("float32", "bfloat16"), ("float64",)):
        _runs(folder / "trained", precisions)
        for precision in precisions:
            _save_networks(folder / "weights", precision)
    for run in (folder / "trained").iterdir():  # a host's name, and folders that Git cannot keep
        (run / ".lock").unlink()
        shutil.rmtree(run / "figures")
    sums = ((hashlib.sha256((folder / name).read_bytes()), name) for name in files(folder))
    lines = [f"{each.hexdigest()}  {name}\n" for each, name in sums]
    (folder / SUMS).write_text("".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
