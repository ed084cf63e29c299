"""The checkpoints of inverted attention's authors: their names, their axes, and what is refused."""

import dataclasses

import numpy as np
import pytest

from parity.convert import network
from parity.spec import Block, CapsuleLayer, Conv, Primary, Tsai2020, preset
from parity.weights import WeightsError, check, table

# 12x10 -> 6x5 of 2 types -> 5x4 of 3 types -> 4x3 of 5 types -> classes
SPEC = Tsai2020(
    image=(12, 10, 3),
    stem=(Conv(3, 3),),
    blocks=(*(Block(3),) * 3, Block(5, 2, projected=True), *(Block(5),) * 3),
    primary=Primary(types=2, size=4, kernel=1, stride=1),
    capsules=(CapsuleLayer(3, 4, 2), CapsuleLayer(5, 4, 2)),
    classes=7,
    pose=4,
)
DENSE = dataclasses.replace(
    SPEC,
    image=(12, 12, 3),
    stem=(Conv(5, 3, 2),),
    blocks=(),
    norm=None,
    capsules=(*SPEC.capsules, CapsuleLayer(6, 4, 4)),
)
BLOCKS = [*(f"3.{n}" for n in range(3)), *(f"4.{n}" for n in range(4))]


def theirs(spec: Tsai2020, ours: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict that their code has of these weights."""
    head, made = "pre_caps.pre_caps", {}

    def norm(name: str, place: str) -> None:
        for part, own in (
            *(("weight", "scale"), ("bias", "shift")),
            *(("running_mean", "mean"), ("running_var", "variance")),
        ):
            if (key := f"{name}.norm.{own}") in ours:
                made[f"{place}.{part}"] = ours[key]
        if "bn" in place or place.endswith("1"):
            made[f"{place}.num_batches_tracked"] = np.array(17)

    def conv(name: str, place: str, after: str = "") -> None:
        made[f"{place}.weight"] = ours[f"{name}.kernel"].transpose(3, 2, 0, 1)
        if f"{name}.bias" in ours:
            made[f"{place}.bias"] = ours[f"{name}.bias"]
        elif after:
            norm(name, after)

    conv("stem.0", f"{head}.0", f"{head}.1")
    for n, place in enumerate(BLOCKS[: len(spec.blocks)]):
        for m in (0, 1):
            conv(f"block.{n}.conv.{m}", f"{head}.{place}.conv{m + 1}", f"{head}.{place}.bn{m + 1}")
    if spec.blocks:
        conv("block.3.shortcut", f"{head}.4.0.shortcut.0", f"{head}.4.0.shortcut.1")
    conv("primary", "pc_layer")
    norm("primary", "nonlinear_act")
    for n in range(len(spec.capsules) + 1):
        kernel = ours[f"capsule.{n}.kernel"].transpose(0, 1, 2, 4, 5, 3)  # kh kw i p q j
        if n > 1:  # dense: i, then places
            kernel = kernel.transpose(2, 0, 1, 3, 4, 5).reshape(-1, *kernel.shape[3:])
        made[f"capsule_layers.{n}.w"] = kernel
        norm(f"capsule.{n}", f"capsule_layers.{n}.nonlinear_act")
    made["final_fc.weight"], made["final_fc.bias"] = ours["head.kernel"].T, ours["head.bias"]
    return made


def drawn(spec: Tsai2020) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    rows = table(spec).items()
    return {name: random.standard_normal(row.shape).astype("float32") for name, row in rows}


def saved(folder, spec, ours):
    """A checkpoint as their training writes it on several GPUs: a dict of net, acc and epoch."""
    torch = pytest.importorskip("torch")
    net = {f"module.{name}": torch.tensor(x.copy()) for name, x in theirs(spec, ours).items()}
    torch.save({"net": net, "acc": 94.2, "epoch": 3}, folder / "ckpt.pth")
    return folder / "ckpt.pth"


@pytest.mark.parametrize("spec", [SPEC, DENSE], ids=["classes of a grid", "a dense layer more"])
def test_every_tensor_is_the_files_in_our_axes(tmp_path, spec):
    ours = drawn(spec)
    found = network(saved(tmp_path, spec, ours), spec=spec)
    assert (found.layout, found.spec, found.taken) == ("inverted", spec, ("module",))
    assert "released=True" in found.note
    check(found.arrays, table(spec))
    for key, array in ours.items():
        np.testing.assert_array_equal(found.arrays[key], array, key)


def test_the_names_are_those_of_the_presets_code():
    """Every parameter and running number of tsai2020, and nothing else but counters."""
    rows = table(preset("tsai2020")).items()
    made = theirs(preset("tsai2020"), {name: np.empty(row.shape) for name, row in rows})
    counters = [name for name in made if name.endswith("tracked")]
    assert len(made) - len(counters) == len(dict(rows))
    assert len(counters) == 16
    assert made["capsule_layers.0.w"].shape == (3, 3, 32, 4, 4, 32)
    assert made["capsule_layers.2.w"].shape == (800, 4, 4, 10)


def test_another_network_is_refused_with_every_fault(tmp_path):
    file = saved(tmp_path, SPEC, drawn(SPEC))
    with pytest.raises(
        WeightsError, match=r"capsule_layers\.2\.w has shape \(60, 2, 2, 7\), expected"
    ):
        network(file, spec=dataclasses.replace(SPEC, classes=11))
    with pytest.raises(WeightsError, match="not this network in layout inverted"):
        network(file, preset="tsai2020")
