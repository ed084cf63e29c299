"""Self-routing's own .pth.tar files: golden networks, in the names and axes of its code."""

import importlib

import numpy as np
import pytest
from test_self_routing import golden

from parity.convert import network
from parity.weights import WeightsError, check, table

NAMES = {"selfrouting-1": 1, "selfrouting-2": 2}
NORM = {"scale": "weight", "shift": "bias", "mean": "running_mean", "variance": "running_var"}
FIRST = {"stem.0": ("conv1", "bn1"), "activation": ("conv_a", "bn_a")}
FIRST |= {"primary": ("conv_pose", "bn_pose")}


def theirs(depth: int, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors as its modules hold them."""
    found = {}
    for name, array in weights.items():
        layer, _, part = name.rpartition(".")
        _, number, *rest = (*name.split("."), "")
        if name.startswith("capsule."):
            own = "fc" if int(number) == depth - 1 else f"conv_layers.{number}"
            if rest[0] == "norm":
                found[f"norm_layers.{number}.{NORM[part]}"] = array
            elif rest[0] == "kernel":
                kernel = array.transpose(0, 1, 2, 3, 5, 4)
                size, pose = np.prod(kernel.shape[:3]), np.prod(kernel.shape[3:5])
                found[f"{own}.W1"] = kernel.reshape(size, pose, -1)
            elif part == "kernel":
                found[f"{own}.W2"] = array.reshape(-1, *array.shape[3:])
            else:
                found[f"{own}.b2"] = array.reshape(1, 1, -1, array.shape[3])
            continue
        layer = layer.removesuffix(".norm")
        if layer in FIRST:
            conv, norm = FIRST[layer]
        else:
            block = f"layer{int(number) // 3 + 1}.{int(number) % 3}"
            conv, norm = (f"{block}.{kind}{int(layer[-1]) + 1}" for kind in ("conv", "bn"))
        if part == "kernel":
            found[f"{conv}.weight"] = array.transpose(3, 2, 0, 1)
        else:
            found[f"{norm}.{NORM[part]}"] = array
    return found


def write(path, tensors):
    """A file as its Trainer saves it, with the state of SGD and of its schedule beside."""
    torch = importlib.import_module("torch")
    state = {name: torch.tensor(array) for name, array in tensors.items()}
    state["bn1.num_batches_tracked"] = torch.tensor(7)
    momentum = {0: {"momentum_buffer": torch.zeros(3)}}
    torch.save(
        {
            "epoch": 3,
            "model_state": state,
            "optim_state": {"state": momentum, "param_groups": [{"lr": 0.1, "params": [0]}]},
            "scheduler_state": {"last_epoch": 3, "milestones": {150: 1, 250: 1}},
            "best_valid_acc": 0.5,
        },
        path,
    )
    return path


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_is_the_files_in_our_axes(name, tmp_path):
    spec, weights, _ = golden(NAMES[name])
    file = write(tmp_path / "them.pth.tar", theirs(NAMES[name], weights))
    found = network(file, spec=spec)
    assert found.layout == name
    check(found.arrays, table(spec))
    for ours, array in weights.items():
        np.testing.assert_array_equal(found.arrays[ours], array, ours)


def test_a_network_of_another_depth_is_refused(tmp_path):
    _, weights, _ = golden(1)
    spec, _, _ = golden(2)
    file = write(tmp_path / "them.pth.tar", theirs(1, weights))
    with pytest.raises(WeightsError, match=r"missing capsule\.1\.route\.kernel|fc\.W2 has shape"):
        network(file, spec=spec)
