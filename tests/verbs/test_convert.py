"""`parity.convert`: through every format and back, bit for bit, and as the frameworks read it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import wings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specs import NETWORKS, PRIMES, TINY, network_specs, same_bits
from test_imports import run
from weight_files import FILES, FORMATS, JAX, TORCH, draw, make

from parity import __main__ as door
from parity import reference, weights
from parity.convert import convert, network
from parity.runs import Run
from parity.runs.disk import RunWarning
from parity.spec import PRESETS, Conv, NetworkSpec, Primary, TrainingSpec, TwincapsError, preset
from parity.weights import FLOATS, WeightsError

# There and back.


@pytest.mark.parametrize("name", wings.NAMES)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_axes_of_a_wing_and_ours_are_one_to_one(name, network):
    spec = NETWORKS[network]
    rows, orders = weights.table(spec), wings.load(name).arrays.axes(spec)
    assert list(orders) == list(rows)
    assert [ours for ours, _ in orders.values()] == [row.axes for row in rows.values()]
    assert len({*orders.values()}) == len({theirs for _, theirs in orders.values()})
    for each, (ours, theirs) in orders.items():
        assert sorted(ours.split()) == sorted(theirs.split())
        numbers = np.arange(np.prod(rows[each].shape)).reshape(rows[each].shape)
        there = weights.transpose(numbers, ours, theirs)
        assert np.array_equal(weights.transpose(there, theirs, ours), numbers)
        sizes = dict(zip(ours.split(), numbers.shape, strict=True))
        assert there.shape == tuple(sizes[axis] for axis in theirs.split())


@pytest.mark.parametrize("dtype", [*FLOATS, "mixed"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_round_trip_is_byte_identical(name, dtype, tmp_path):
    path = make(tmp_path, name, dtypes=FLOATS if dtype == "mixed" else (dtype,))
    convert(path, tmp_path / "back.safetensors")
    source, back = tmp_path / "source.safetensors", tmp_path / "back.safetensors"
    assert back.read_bytes() == source.read_bytes()
    assert {each.name for each in tmp_path.iterdir()} == {source.name, back.name, path.name}


@pytest.mark.parametrize("name", FILES)
def test_the_same_weights_give_the_same_bytes(name, tmp_path):
    first = make(tmp_path, name).read_bytes()
    (tmp_path / FORMATS[name].file).unlink()
    assert make(tmp_path, name).read_bytes() == first


@pytest.mark.parametrize("start", FORMATS)
@pytest.mark.parametrize("end", FORMATS)
def test_any_format_becomes_any_other(start, end, tmp_path):
    path = make(tmp_path, start)
    convert(path, tmp_path / f"2-{FORMATS[end].file}", to=FORMATS[end].to)
    spec, arrays = PRIMES, draw(PRIMES)
    found = network(tmp_path / f"2-{FORMATS[end].file}")
    assert found.spec == spec
    assert list(found.arrays) == list(arrays)
    assert all(same_bits(found.arrays[name], arrays[name]) for name in arrays)


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(spec=network_specs(), dtypes=st.permutations(FLOATS), bits=st.integers(0, 2**32))
def test_random_networks_survive_every_format(tmp_path_factory, spec, dtypes, bits):
    folder = tmp_path_factory.mktemp("random")
    arrays = draw(spec, dtypes)
    for n, array in enumerate(arrays.values()):  # any bits at all: NaNs, infinities, subnormals
        raw = np.random.default_rng(bits + n).bytes(array.nbytes)
        array[...] = np.frombuffer(raw, array.dtype).reshape(array.shape)
    weights.save(folder / "source.safetensors", spec, arrays)
    for each in FORMATS.values():
        convert(folder / "source.safetensors", folder / each.file, to=each.to)
        convert(folder / each.file, folder / f"back-{each.file}.safetensors")
        back = folder / f"back-{each.file}.safetensors"
        assert back.read_bytes() == (folder / "source.safetensors").read_bytes()


# What the frameworks themselves make of the files.


def outputs(wing, net):
    images = np.random.default_rng(3).uniform(0, 1, (2, *PRIMES.image)).astype(np.float32)
    return wings.numpy(net(images))


@pytest.fixture
def expected():
    images = np.random.default_rng(3).uniform(0, 1, (2, *PRIMES.image)).astype(np.float32)
    return reference.encode(PRIMES, draw(PRIMES, ("float32",)), images).astype(np.float32)


@TORCH
def test_a_pt_file_is_a_state_dict_that_torch_loads(expected, tmp_path):
    wing = wings.load("torch")
    path = make(tmp_path, "pt", dtypes=("float32",))
    torch = wing.weights.torch
    net = wing.CapsuleNetwork(PRIMES, seed=5)
    net.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    assert wings.difference(outputs(wing, net), expected) < 1e-5


@JAX
def test_a_msgpack_file_is_a_pure_dict_that_flax_loads(expected, tmp_path):
    from flax import nnx, serialization

    wing = wings.load("jax")
    path = make(tmp_path, "msgpack", dtypes=("float32",))
    net = wing.CapsuleNetwork(PRIMES, seed=5)
    state = nnx.state(net, nnx.Param)
    tree = serialization.msgpack_restore(path.read_bytes())["params"]
    assert tree["stem"][0]["kernel"].shape == (3, 3, 3, 5)
    nnx.replace_by_pure_dict(state, tree)
    nnx.update(net, state)
    assert wings.difference(outputs(wing, net), expected) < 1e-5


@JAX
def test_an_orbax_folder_is_a_checkpoint_that_orbax_restores(expected, tmp_path):
    import orbax.checkpoint
    from flax import nnx

    wing = wings.load("jax")
    path = make(tmp_path, "orbax", dtypes=("float32",))
    net = wing.CapsuleNetwork(PRIMES, seed=5)
    state = nnx.state(net, nnx.Param)
    with orbax.checkpoint.Checkpointer(orbax.checkpoint.PyTreeCheckpointHandler()) as checkpointer:
        tree = nnx.restore_int_paths(checkpointer.restore(path))
    nnx.replace_by_pure_dict(state, tree)
    nnx.update(net, state)
    assert wings.difference(outputs(wing, net), expected) < 1e-5


# Files that do not say what they are.


def named(monkeypatch, spec: NetworkSpec = PRIMES) -> str:
    """The name of a preset that is this network."""
    card = dataclasses.replace(PRESETS["small"], network=spec)
    monkeypatch.setitem(PRESETS, "ours", card)
    return "ours"


def bare(folder: Path, kind: str, seed: int = 0) -> Path:
    """Weights of our own in a file without a header."""
    arrays = draw(PRIMES, seed=seed)
    path = folder / {"pt": "bare.pt", "msgpack": "bare.msgpack", "npz": "bare.npz"}[kind]
    if kind == "pt":
        wing = wings.load("torch")
        orders = wing.arrays.axes(PRIMES)
        held = {name: wing.arrays.from_canonical(arrays[name], orders[name]) for name in arrays}
        wing.weights.torch.save(held, path)
    elif kind == "msgpack":
        from flax import serialization, traverse_util

        tree = traverse_util.unflatten_dict(arrays, sep=".")
        path.write_bytes(serialization.msgpack_serialize(tree))
    return path


@pytest.mark.parametrize(
    "kind", [pytest.param("pt", marks=TORCH), pytest.param("msgpack", marks=JAX)]
)
def test_a_bare_file_needs_a_preset_and_takes_its_sizes_from_shapes(kind, tmp_path, monkeypatch):
    path, arrays = bare(tmp_path, kind), draw(PRIMES)
    with pytest.raises(TwincapsError, match=r"does not say what network it is; name a preset"):
        network(path)
    other = dataclasses.replace(
        PRIMES, stem=(Conv(2, 2),), classes=7, pose=3, decoder=None, image=(13, 11, 2)
    )
    for asked in ({"preset": named(monkeypatch, other)}, {"spec": PRIMES}):
        found = network(path, **asked)
        assert found.spec == PRIMES
        assert all(same_bits(found.arrays[name], arrays[name]) for name in arrays)
    with pytest.raises(WeightsError, match="not this network in layout"):
        network(path, spec=other)
    with pytest.raises(WeightsError, match="not this network in layout"):
        network(path, preset="sabour2017-official")  # other strides and another image
    with pytest.raises(TwincapsError, match="not both"):
        network(path, preset="small", spec=PRIMES)


@TORCH
def test_names_decide_where_shapes_cannot(tmp_path):
    """Every axis of every kernel has size 3: the two readings differ in values alone."""
    import safetensors.numpy

    spec = NetworkSpec(
        image=(7, 7, 3),
        stem=(Conv(3, 3),),
        primary=Primary(types=3, size=1, kernel=3, stride=1),
        classes=3,
        pose=1,
        decoder=None,
    )
    held = draw(spec, ("float32",))
    safetensors.numpy.save_file(held, tmp_path / "bare.safetensors")
    with pytest.raises(TwincapsError, match="shapes cannot tell; say --layout torch or --layout c"):
        network(tmp_path / "bare.safetensors", spec=spec)
    canonical = network(tmp_path / "bare.safetensors", spec=spec, layout="canonical").arrays
    torch = network(tmp_path / "bare.safetensors", spec=spec, layout="torch").arrays
    assert all(same_bits(canonical[name], held[name]) for name in held)
    for name in ("stem.0.kernel", "primary.kernel"):
        assert same_bits(torch[name], held[name].transpose(2, 3, 1, 0).copy())
    assert same_bits(torch["digit.kernel"], held["digit.kernel"])


@pytest.mark.parametrize("name", FORMATS)
def test_a_header_is_not_overruled(name, tmp_path):
    path = make(tmp_path, name)
    assert network(path, spec=PRIMES).spec == PRIMES
    with pytest.raises(TwincapsError, match="not the one asked for; leave the preset out"):
        network(path, preset="small")
    with pytest.raises(TwincapsError, match=r"its own header says that it is in \w+ layout"):
        network(path, layout="labml")


# Runs.


def make_run(folder: Path, accuracies=(0.25, 0.75, 0.5)) -> tuple[Path, list[weights.Arrays]]:
    """A run with a checkpoint for each accuracy, at steps 10, 20, ..., and their weights."""
    held = [draw(TINY, ("float32",), seed) for seed in range(len(accuracies))]
    with Run.create(folder / "run", TINY, TrainingSpec(optimizer="sgd")) as run:
        for n, (accuracy, arrays) in enumerate(zip(accuracies, held, strict=True), 1):
            slots = {f"sgd.momentum/{name}": array for name, array in arrays.items()}
            state = {"step": 10 * n, "weights": arrays, "optimizer": slots}
            run.save(state, epoch=n, cursor=0, accuracy=accuracy, best=max(accuracies[:n]))
    return folder / "run", held


def test_a_run_gives_its_newest_or_its_best_checkpoint(tmp_path):
    run, held = make_run(tmp_path)
    for path, best, index in (
        (run, False, 2),
        (run, True, 1),
        (run / "checkpoints" / "step-00000010", False, 0),
    ):
        arrays = network(path, best=best).arrays
        assert all(same_bits(arrays[name], held[index][name]) for name in arrays)


def test_a_run_with_a_torn_checkpoint_gives_the_newest_whole_one(tmp_path):
    run, held = make_run(tmp_path)
    torn = run / "checkpoints" / "step-00000030" / "weights.safetensors"
    torn.write_bytes(torn.read_bytes()[:-1])
    with pytest.warns(RunWarning, match="step-00000030"):
        arrays = network(run).arrays
    assert all(same_bits(arrays[name], held[1][name]) for name in arrays)
    with Run.create(tmp_path / "empty", TINY, TrainingSpec()):
        pass
    with pytest.raises(TwincapsError, match="has no checkpoint yet"):
        network(tmp_path / "empty")


def test_the_optimiser_of_a_checkpoint_is_not_a_network(tmp_path):
    run, _ = make_run(tmp_path)
    file = run / "checkpoints" / "step-00000030" / "optimizer.safetensors"
    with pytest.raises(WeightsError, match="holds twincaps-optimizer, expected a network's"):
        network(file)


# The command line, and one wing alone.


def test_the_command_line_converts_and_says_what(tmp_path, capsys, monkeypatch):
    weights.save(tmp_path / "a.safetensors", PRIMES, draw(PRIMES))
    src, dst = str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")
    assert door.main(["convert", src, dst]) == 0
    count = sum(array.size for array in draw(PRIMES).values())
    assert (
        f"wrote {dst}: {count:,} parameters, bfloat16, float16, float32" in capsys.readouterr().out
    )
    assert door.main(["convert", src, dst]) == 2
    assert f"error: {dst}: exists; --force replaces it" in capsys.readouterr().err
    assert door.main(["convert", src, dst, "--force", "--to", "canonical"]) == 0
    assert Path(dst).read_bytes() == Path(src).read_bytes()


@TORCH
def test_the_command_line_says_which_sizes_are_not_the_presets(tmp_path, capsys):
    wing = wings.load("torch")
    spec = dataclasses.replace(preset("small"), classes=3, decoder=(7,))
    wing.weights.torch.save(wing.CapsuleNetwork(spec).state_dict(), tmp_path / "bare.pt")
    dst = str(tmp_path / "b.safetensors")
    assert door.main(["convert", str(tmp_path / "bare.pt"), dst, "--preset", "small"]) == 0
    said = capsys.readouterr().out
    assert "not the preset's: classes 3 (preset 10), decoder (7,) (preset (128, 256))" in said
    assert network(dst).spec == spec


@pytest.mark.parametrize(
    ("name", "blocked"),
    wings.wide(
        [(n, b) for n in FORMATS for b in ("torch", "jax") if FORMATS[n].wing],
        lambda name, blocked: blocked == FORMATS[name].wing,
    ),
)
def test_a_format_needs_its_own_framework_alone(name, blocked, tmp_path):
    path = make(tmp_path, name, TINY)
    argv = ["convert", str(path), str(tmp_path / "back.safetensors")]
    code = f"from parity.__main__ import main\nsys.exit(main({argv!r}))"
    result = run(code, {blocked})
    if blocked == FORMATS[name].wing and name != "torch safetensors":
        assert result.returncode == 2
        assert "this kind of file needs" in result.stderr
        assert "pip install 'twincaps[" in result.stderr or "orbax" in result.stderr
    else:
        assert result.returncode == 0, result.stderr
        source = tmp_path / "source.safetensors"
        assert (tmp_path / "back.safetensors").read_bytes() == source.read_bytes()
