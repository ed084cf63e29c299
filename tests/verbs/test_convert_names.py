"""What frameworks' own tools put around names, beside weights and into messages."""

import argparse
import dataclasses
import re

import numpy as np
import pytest
import wings
from foreign_networks import CASES, SPEC
from foreign_networks import draw as draw_foreign
from foreign_networks import write as write_foreign
from specs import PRIMES, same_bits
from weight_files import JAX, TORCH, draw

from parity import __main__ as door
from parity.convert import LAYOUTS, describe, network
from parity.convert.names import unwrapped
from parity.spec import TwincapsError, gist
from parity.weights import WeightsError

INNER = "digit._fsdp_wrapped_module.kernel"
WRAPPED = {
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "DataParallel": lambda name: f"module.{name}",
    "DataParallel of a compiled one": lambda name: f"module._orig_mod.{name}",
    "a compiled DataParallel": lambda name: f"_orig_mod.module.{name}",
    "a compiled layer": lambda name: re.sub(r"^primary", "primary._orig_mod", name),
    "sharded": lambda name: "_fsdp_wrapped_module." + re.sub("^digit.kernel$", INNER, name),
    "an attribute": lambda name: f"net.{name}",
    "an attribute of a compiled attribute": lambda name: f"model._orig_mod.capsnet.{name}",
}


def torch_wing():
    wing = wings.load("torch")
    return wing, wing.weights.torch


def ours(seed: int = 0) -> tuple[dict, dict]:
    """Our weights, and the same as a state_dict."""
    wing, _ = torch_wing()
    arrays, orders = draw(PRIMES, seed=seed), wing.arrays.axes(PRIMES)
    return arrays, {n: wing.arrays.from_canonical(arrays[n], orders[n]) for n in arrays}


def gives(path, arrays, **asked) -> None:
    found = network(path, **{"spec": PRIMES, **asked})
    assert list(found.arrays) == list(arrays)
    assert all(same_bits(found.arrays[name], arrays[name]) for name in arrays)


@TORCH
@pytest.mark.parametrize("how", WRAPPED)
def test_names_that_torchs_tools_wrapped_are_known(how, tmp_path):
    _, torch = torch_wing()
    arrays, state = ours()
    torch.save({WRAPPED[how](name): each for name, each in state.items()}, tmp_path / "theirs.pt")
    gives(tmp_path / "theirs.pt", arrays)
    assert describe(tmp_path / "theirs.pt")["layouts"] == ["torch"]


@TORCH
@pytest.mark.filterwarnings("ignore:.torch.jit.script")  # by torch itself
def test_a_state_dict_of_an_average_of_a_compiled_network_is_known(tmp_path):
    """By torch itself, not by names of ours."""
    wing, torch = torch_wing()
    net = wing.CapsuleNetwork(PRIMES, seed=3)
    arrays = wing.weights.to_numpy(net)
    average = torch.optim.swa_utils.AveragedModel(torch.compile(torch.nn.DataParallel(net)))
    assert {"n_averaged", "module._orig_mod.module.digit.kernel"} <= set(average.state_dict())
    torch.save({"epoch": 3, "ema": average.state_dict()}, tmp_path / "theirs.pt")
    gives(tmp_path / "theirs.pt", arrays)


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("official", "xifengguo-keras")])
def test_a_foreign_network_may_be_an_attribute_too(name, tmp_path):
    tensors = draw_foreign(name)
    asked = {"layout": name, "spec": CASES[name].spec}
    exact = network(write_foreign(tmp_path / "plain", tensors), **asked).arrays
    renamed = {f"model.capsule.{each}": tensor for each, tensor in tensors.items()}
    file = write_foreign(tmp_path / "inner", renamed)
    found = network(file, **asked)
    assert all(np.array_equal(exact[each], found.arrays[each]) for each in exact)
    assert set(found.taken) == {"model", "capsule"}
    mine = dataclasses.replace(
        LAYOUTS[name],
        tensors={
            each: (f"capsule.{template}", axes)
            for each, (template, axes) in LAYOUTS[name].tensors.items()
        },
    )
    if "[" not in str(mine.tensors):
        assert network(file, layout=mine, spec=asked["spec"]).taken == ("model",)


def test_nothing_is_taken_off_names_that_would_then_be_the_same_or_fit_nothing():
    one = np.ones(())
    for names in (
        ["module.digit.kernel", "digit.kernel", "module.digit.bias"],
        ["vae.encoder.weight", "vae.decoder.weight"],
        ["digit.kernel", "module"],
        [],
    ):
        arrays = dict.fromkeys(names, one)
        assert unwrapped(arrays) == (arrays, ())


@TORCH
def test_what_was_taken_off_is_told(tmp_path, capsys):
    wing, torch = torch_wing()
    state = wing.load_pretrained("small-mnist").state_dict()
    torch.save({f"_orig_mod.{name}": each for name, each in state.items()}, tmp_path / "theirs.pt")
    argv = [str(tmp_path / "theirs.pt"), str(tmp_path / "a.safetensors"), "--preset", "small"]
    assert door.main(["convert", *argv]) == 0
    assert "by their names without _orig_mod\n" in capsys.readouterr().out


# What stands beside the weights of a .pt.


@TORCH
@pytest.mark.parametrize("legacy", [False, True])
def test_numpy_numbers_and_arrays_beside_the_weights_are_harmless(legacy, tmp_path):
    _, torch = torch_wing()
    arrays, state = ours()
    beside = {"best": np.float64(0.75), "at": np.int64(3), "whole": np.bool_(True)}
    content = {"model": state, **beside, "losses": np.arange(5.0), "names": np.array(["a", "bc"])}
    torch.save(content, tmp_path / "theirs.pt", _use_new_zipfile_serialization=not legacy)
    gives(tmp_path / "theirs.pt", arrays)
    if legacy:  # no lengths, no checksum: as NumPy 1 would have written it
        content = (tmp_path / "theirs.pt").read_bytes()
        assert b"numpy._core.multiarray" in content
        (tmp_path / "old.pt").write_bytes(content.replace(b"numpy._core", b"numpy.core"))
        gives(tmp_path / "old.pt", arrays)


@TORCH
@pytest.mark.parametrize("strange", [argparse.Namespace(lr=0.1), dataclasses.make_dataclass])
def test_what_is_no_number_is_named_with_the_cure(strange, tmp_path):
    _, torch = torch_wing()
    torch.save({"model": ours()[1], "args": strange}, tmp_path / "theirs.pt")
    kind = getattr(strange, "__name__", type(strange).__name__)
    with pytest.raises(WeightsError) as caught:
        network(tmp_path / "theirs.pt", spec=PRIMES)
    said = str(caught.value)
    assert re.search(rf"refused \(it holds \w+\.{kind} beside its tensors\)", said)
    assert "torch.save(model.state_dict(), path)" in said
    assert "\x1b" not in said


@TORCH
def test_of_several_dicts_of_tensors_each_is_named_and_the_way_to_choose(tmp_path):
    _, torch = torch_wing()
    arrays, state = ours()
    path = tmp_path / "theirs.pt"
    torch.save({"model": ours(1)[1], "ema": state, "epoch": 3}, path)
    with pytest.raises(WeightsError, match=r"2 dicts of tensors, under 'model', 'ema'") as caught:
        network(path, spec=PRIMES)
    assert "torch.save(torch.load(path)['model'], new_path)" in str(caught.value)
    torch.save(torch.load(path)["ema"], tmp_path / "ema.pt")
    gives(tmp_path / "ema.pt", arrays)
    torch.save({"epoch": 3, "net": {"a": 1}}, path)
    with pytest.raises(WeightsError, match=r"holds no dict of tensors but a dict of \['epoch', 'n"):
        network(path, spec=PRIMES)


# Flax and orbax.


def tree(arrays: dict, leaf=lambda array: array) -> dict:
    from flax import traverse_util

    return traverse_util.unflatten_dict({n: leaf(a) for n, a in arrays.items()}, sep=".")


@JAX
@pytest.mark.parametrize(
    "content",
    [
        lambda a: {"params": {"params": tree(a)}, "step": 3},
        lambda a: tree(a, lambda array: {"value": array}),
        lambda a: {"model": tree(a), "epoch": 3, "best": 0.5},
        lambda a: {"params": tree(a), "opt_state": {"0": {"count": np.ones(2)}}, "step": 3},
    ],
)
def test_collections_of_flax_are_known(content, tmp_path):
    from flax import serialization

    arrays = draw(PRIMES)
    (tmp_path / "w.msgpack").write_bytes(serialization.msgpack_serialize(content(arrays)))
    gives(tmp_path / "w.msgpack", arrays)


@JAX
def test_orbax_folders_of_a_state_and_of_a_manager_are_known(tmp_path, capsys):
    import orbax.checkpoint as ocp
    from flax import nnx

    wing = wings.load("jax")
    nets = {seed: wing.CapsuleNetwork(PRIMES, seed) for seed in (1, 2)}
    exact = {seed: wing.weights.to_numpy(net) for seed, net in nets.items()}
    states = {seed: nnx.state(net, nnx.Param) for seed, net in nets.items()}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", states[1])
    gives(tmp_path / "state", exact[1])
    with ocp.CheckpointManager(tmp_path / "manager") as manager:
        for step, seed in ((13, 2), (2, 1)):
            pure = nnx.to_pure_dict(states[seed])
            manager.save(step, args=ocp.args.StandardSave(pure), force=True)
        manager.wait_until_finished()
    gives(tmp_path / "manager", exact[2])
    gives(tmp_path / "manager" / "2", exact[1])
    assert network(tmp_path / "manager", spec=PRIMES).source == tmp_path / "manager/13/default"
    with pytest.raises(TwincapsError, match="replaces no folder but an orbax one"):
        door_of(tmp_path / "state", tmp_path / "manager")
    options = ocp.CheckpointManagerOptions(step_prefix="at")
    with ocp.CheckpointManager(tmp_path / "parts", options=options) as manager:
        pure = ocp.args.StandardSave(nnx.to_pure_dict(states[1]))
        manager.save(7, args=ocp.args.Composite(model=pure, ema=pure))
        manager.wait_until_finished()
    with pytest.raises(TwincapsError, match=r"at_7: .* several items, ema, model; .*at_7/ema"):
        network(tmp_path / "parts", spec=PRIMES)
    gives(tmp_path / "parts" / "at_7" / "model", exact[1])


def door_of(src, dst) -> None:
    from parity.convert import convert

    convert(src, dst, to="orbax", spec=PRIMES, force=True)


# Keras, layouts that are not near, messages.


def test_names_of_keras_that_would_be_the_same_are_kept_whole(tmp_path):
    import h5py

    tensors = draw_foreign("xifengguo-keras")
    first = next(iter(tensors))
    with h5py.File(tmp_path / "w.h5", "w") as file:
        for name, tensor in tensors.items():
            file[name] = tensor
        short = first.partition("/")[2]
        file[f"again/{short}"] = tensors[first] + 1
    names = {row["name"] for row in describe(tmp_path / "w.h5")["tensors"]}
    assert {first, f"again/{short}"} <= names
    with pytest.raises(WeightsError) as caught:
        network(tmp_path / "w.h5", layout="xifengguo-keras", spec=SPEC)
    assert all(f"unexpected {name} " in str(caught.value) for name in (first, f"again/{short}"))


def test_no_layout_is_called_the_nearest_of_a_network_of_another_kind(tmp_path):
    tensors = {f"layer{n}.conv.weight": np.ones((2, n + 1)) for n in range(23)}
    np.savez(tmp_path / "w.npz", **tensors)
    with pytest.raises(WeightsError) as caught:
        network(tmp_path / "w.npz", spec=SPEC)
    said = str(caught.value)
    assert "the names of its 23 tensors fit no layout; expected ours or those of official," in said
    assert "layer0.conv.weight (2, 1)\n" in said
    assert said.endswith("and 3 more")
    assert "nearest" not in said
    near = draw_foreign("labml")
    near.pop("conv1.bias")
    with pytest.raises(WeightsError, match="in layout labml, the nearest of"):
        network(write_foreign(tmp_path / "near", near), spec=SPEC)


@pytest.mark.parametrize(
    ("message", "useful"),
    [
        ("one line", "one line"),
        ("", "RuntimeError('')"),
        ("\n\n  first\nsecond", "first"),
        ("\x1b[1mbold\x1b[0m words\x1b[31m.\x1b[0m", "bold words."),
        ("Two options:\n (1) ..\n\tUnpickler error: no a.b\n more", "Unpickler error: no a.b"),
        ("Many words.\n\tWeightsError: no a.b\n more", "WeightsError: no a.b"),
        ("jax.errors.TracerError: no\nthen", "jax.errors.TracerError: no"),
        ("----\nBanner:\nthe cause\nSee https://x", "the cause"),
    ],
)
def test_the_useful_line_of_a_message_is_shown_without_codes(message, useful):
    assert gist(RuntimeError(message)) == useful
