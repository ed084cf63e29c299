"""What users of version 0.1.0 saved, in tests/golden/saved: it loads, is the same, and goes on.

Only bytes that were loaded and saved are compared; what is trained again may differ by rounding.
"""

import functools
import hashlib
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import wings

from parity import loop, weights
from parity.convert import convert
from parity.data import Dataset, from_arrays
from parity.runs import Run
from parity.runs.checkpoints import FORMAT
from parity.runs.disk import read_json
from parity.spec import NetworkSpec, TrainingSpec

SAVED, EPOCHS, PER_EPOCH = wings.ROOT / "tests/golden/saved", 3, 5
SUMS, CLI = "SHA256SUMS", "torch-cli-stopped"
SHAPE, CLASSES = (7, 11, 2), 3  # of the images that the runs are of
# What a converted file is made with, and the wing whose framework reads and writes it.
CONVERTED = {
    ".torch.safetensors": ("torch", "torch"),
    ".pt": ("torch", "torch"),
    ".msgpack": ("flax", "jax"),
    ".orbax": ("orbax", "jax"),
    ".npz": (None, None),
}


def files() -> list[str]:
    """The names of all that was saved."""
    found = (
        each for kind in ("trained", "weights", "converted") for each in (SAVED / kind).rglob("*")
    )
    return [each.relative_to(SAVED).as_posix() for each in found if each.is_file()]


def dataset() -> Dataset:
    """What the runs were trained on: noise with a bright stripe, whose place is the label.

    The noise is bytes of SHAKE-256, which no version of NumPy makes differently.
    """

    def split(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (count, *SHAPE)
        noise = hashlib.shake_256(name.encode()).digest(int(np.prod(shape)))
        images = np.frombuffer(noise, np.uint8).reshape(shape) // 3
        labels = np.arange(count) % CLASSES
        images[np.arange(count), 2 * labels + 1] = 255
        return images, labels

    return from_arrays(*split("train", 17), *split("test", 7), name="stripes")


def listed(kind: str) -> list[str]:
    """The names in a folder of what was saved."""
    return sorted(path.name for path in (SAVED / kind).iterdir())


def case(name: str, *more: str):
    """A name as a case of a table; what holds float64 has a process of its own."""
    marks = [pytest.mark.float64] if "float64" in name or "mixed" in name else []
    return pytest.param(name, *more, id=" ".join([name, *more]), marks=marks)


def resumed() -> list:
    """Each run and the wing it goes on in: its own and, if it was stopped, the other one too.

    Without that of the command line, which goes on by it.
    """
    pairs = [(name, wing) for name in RUNS if name != CLI for wing in wings.NAMES]
    return [case(*pair) for pair in pairs if pair[0].startswith(pair[1]) or "stopped" in pair[0]]


RUNS, FILES = listed("trained"), listed("weights")


@functools.cache
def trainer(package: str, spec: NetworkSpec, training: TrainingSpec):
    """A wing's Trainer, which runs of the same network and training share: JAX compiles it once."""
    return import_module(package).Trainer(spec, training)


@pytest.fixture(scope="module", autouse=True)
def _unoptimised():
    """Half the time that XLA compiles; how fast the few steps are does not matter here."""
    if "jax" not in wings.NAMES:
        yield
        return
    config = wings.load("jax").numerics.jax.config
    config.update("jax_disable_most_optimizations", True)
    yield
    config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def copy(tmp_path):
    """Makes a copy of a run, which may be written to."""
    return lambda name: Path(shutil.copytree(SAVED / "trained" / name, tmp_path / name))


def test_every_file_is_as_it_was_and_none_is_left_over():
    lines = (SAVED / SUMS).read_text().splitlines()
    sums = {name: sha256 for sha256, name in (line.split("  ") for line in lines)}
    held = {name: hashlib.sha256((SAVED / name).read_bytes()) for name in files()}
    assert {name: each.hexdigest() for name, each in held.items()} == sums
    ours = {"README.md", SUMS}
    assert {path.name for path in SAVED.iterdir()} - ours == {name.split("/")[0] for name in sums}


def test_there_is_a_case_of_every_format():
    ends = {name.partition(".")[2] for name in listed("converted")}
    assert ends == {end.removeprefix(".") for end in CONVERTED}


@pytest.mark.parametrize("name", [case(name) for name in RUNS])
def test_a_run_is_described_by_the_same_bytes(name, tmp_path):
    with Run.open(SAVED / "trained" / name, read_only=True) as run:
        described = run.spec, run.training, run.options, run.preset
    Run.create(tmp_path / "again", *described).close()
    for file in ("spec.json", "training.json"):
        assert (tmp_path / "again" / file).read_bytes() == (run.path / file).read_bytes()


@pytest.mark.parametrize("name", [case(name) for name in RUNS])
def test_a_checkpoint_is_saved_again_as_the_same_bytes(wing, name, copy):
    with Run.open(SAVED / "trained" / name, read_only=True) as run:
        found = run.newest()
    each = trainer(wing.__name__, run.spec, replace(run.training, epochs=EPOCHS))
    each.set_state(found.trainer_state)
    with Run.open(copy(name)) as again:
        again.cut_metrics(found)
        shutil.rmtree(again.path / "checkpoints")
        (again.path / "checkpoints").mkdir()
        state = found.state
        place = {each: getattr(state, each) for each in ("epoch", "cursor", "accuracy", "best")}
        path = again.save(each.get_state(), **place)
    assert path.name == found.path.name
    for file in ("weights.safetensors", "optimizer.safetensors"):
        assert (path / file).read_bytes() == (found.path / file).read_bytes()
    ours, theirs = (read_json(each / "state.json", FORMAT) for each in (path, found.path))
    assert ours.keys() == theirs.keys()
    assert {**ours, "versions": None} == {**theirs, "versions": None}


def steps(lines: list[dict], event: str = "train") -> list[int]:
    return [line["step"] for line in lines if line["event"] == event]


@pytest.mark.parametrize(("name", "backend"), resumed())
def test_a_run_goes_on(name, backend, copy):
    with Run.open(copy(name)) as run:
        before, state = (run.path / "metrics.jsonl").read_bytes(), run.newest().state
        run.change(replace(run.training, epochs=EPOCHS), replace(run.options, backend=backend))
        each = trainer(wings.PACKAGES[backend], run.spec, run.training)
        history = loop.train(each, dataset(), run, progress=False)
        lines, newest = run.metrics(), run.newest().state
    assert (run.path / "metrics.jsonl").read_bytes().startswith(before)
    assert len(before) == state.metrics_bytes
    last = EPOCHS * PER_EPOCH
    assert steps(lines) == list(range(1, last + 1))
    assert steps(history.lines) == list(range(state.step + 1, last + 1))
    assert steps(lines, "eval") == list(range(PER_EPOCH, last + 1, PER_EPOCH))
    assert all(np.isfinite(line["loss"]) for line in lines)
    assert (newest.step, newest.epoch, newest.cursor) == (last, EPOCHS, 0)
    whole = SAVED / "trained" / name.removesuffix("-stopped")
    if whole.name != name:  # the same images in the same order
        with Run.open(whole, read_only=True) as undisturbed:
            expected = [line["loss"] for line in undisturbed.metrics()]
        found = [line["loss"] for line in lines]
        assert found[: len(expected)] == pytest.approx(expected, rel=1e-3)


def test_a_run_goes_on_by_the_command_line(copy):
    run = copy(CLI)
    before = (run / "metrics.jsonl").read_bytes()
    flags = "--resume", run, "--backend", wings.NAMES[0]
    said = wings.door("train", *flags, PYTHONWARNINGS="error")
    assert said.returncode == 0, said.stderr
    assert "warning" not in said.stderr.lower()
    assert (run / "metrics.jsonl").read_bytes().startswith(before)
    with Run.open(run, read_only=True) as opened:
        assert steps(opened.metrics()) == list(range(1, 11))
        assert opened.newest().state.epoch == 2


@pytest.mark.parametrize("name", [case(name) for name in FILES])
def test_weights_are_saved_again_as_the_same_bytes(name, tmp_path):
    source, again = SAVED / "weights" / name, tmp_path / name
    weights.save(again, *weights.load(source))
    assert again.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", [case(name) for name in FILES])
def test_a_wing_loads_weights_and_saves_them_again(wing, name, tmp_path):
    source, again = SAVED / "weights" / name, tmp_path / name
    spec, arrays = weights.load(source)
    wing.weights.save(wing.weights.load(source), again)
    if name.startswith(("bfloat16", "mixed")):  # a network is all float32, or all float64
        wide = "float32" if name.startswith("bfloat16") else "float64"
        arrays = {key: array.astype(wide) for key, array in arrays.items()}
        source = tmp_path / "wide.safetensors"
        weights.save(source, spec, arrays)
    assert again.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", listed("converted"))
def test_a_converted_file_is_made_again_and_converted_back(name, tmp_path):
    stem, _, end = name.partition(".")
    to, needs = CONVERTED[f".{end}"]
    if needs not in (None, *wings.NAMES):
        pytest.skip(f"needs the wing {needs}")
    source, golden = SAVED / "weights" / f"{stem}.safetensors", SAVED / "converted" / name
    bare = {} if to else {"layout": "canonical", "spec": weights.load(source)[0]}
    convert(golden, tmp_path / "back.safetensors", **bare)
    assert (tmp_path / "back.safetensors").read_bytes() == source.read_bytes()
    if to is None:  # NumPy's own file, which is read alone
        return
    convert(source, tmp_path / name, to=to)
    if end in ("msgpack", "torch.safetensors"):
        assert (tmp_path / name).read_bytes() == golden.read_bytes()
        return
    # torch writes its own version's zip, orbax the time: what is in them is compared.
    convert(tmp_path / name, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == source.read_bytes()
