"""What `make bench` measures: sections of groups, a group a table whose cases take turns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.peers import PEERS
from benchmarks.turns import Case
from parity.spec import PRESETS

WINGS = {"torch": "torch", "JAX": "jax"}


@dataclass(frozen=True)
class Scale:
    """The sizes that are quoted, or with `--quick` small ones that only show that it runs."""

    preset: str = "sabour2017"
    batch: int = 128
    images: int = 512
    rounds: int = 5
    iterations: tuple[int, ...] = (1, 2, 3, 5, 8)


QUICK = Scale("small", 3, 6, 2, (1, 2))


@dataclass(frozen=True)
class Group:
    """A table: its title, its rows, each against the first, and what the reader has to know.

    Attributes:
        title: Above the table.
        cases: By the names of the rows: to time, or whose memory to measure.
        commands: In the place of cases: of Python, to time from its start.
        images: Of one call, for a column of images a second.
        unit: "ms" or "s"; "MiB" measures memory.
        note: Below the table.
    """

    title: str
    cases: Mapping[str, Case] = field(default_factory=dict)
    commands: Mapping[str, list[str]] = field(default_factory=dict)
    images: int = 0
    unit: str = "ms"
    note: str = ""


def both(kind: str, prefix: str = "", **options: Any) -> dict[str, Case]:
    """A case in each wing."""
    return {f"{name}{prefix}": Case(wing, kind, options) for name, wing in WINGS.items()}


def public(
    kind: str, peers: Mapping[str, str], of: str = "sabour2017", **options: Any
) -> dict[str, Case]:
    """A case of each peer that is there and whose network is that of a preset."""
    return {
        name: Case(name, kind, {"folder": path, **options})
        for name, path in peers.items()
        if of in PEERS[name][1]
    }


def step(scale: Scale, peers: Mapping[str, str]) -> list[Group]:
    sizes = {"name": scale.preset, "batch": scale.batch}
    cases = {
        **both("step", **sizes),
        **public("step", peers, **sizes),
        **both("step", ", direct convolutions", convolution="direct", **sizes),
        **both("step", " bfloat16", precision="bfloat16", **sizes),
    }
    title = f"A training step of {scale.preset}, batch {scale.batch}"
    return [Group(title, cases, images=scale.batch)]


def digit(scale: Scale, peers: Mapping[str, str]) -> list[Group]:
    sizes = {"name": scale.preset, "batch": scale.batch}
    cases = {
        **both("digit", **sizes),
        **public("digit", peers, **sizes),
        **both("digit", ", votes stored", lean=False, **sizes),
    }
    growth = {}
    for count in scale.iterations:
        growth |= both("digit", f", r = {count}", num_iters=count, **sizes)
    title = f"The digit layer of {scale.preset}, batch {scale.batch}, forward and backward"
    return [Group(f"{title}, r = 3", cases), Group(f"{title}, by iterations", growth)]


def networks(scale: Scale, peers: Mapping[str, str]) -> list[Group]:
    """A step of the first preset of each kind of network, and of those that peers have."""
    first = {card.network.network: name for name, card in reversed(PRESETS.items())}
    shared = [name for _, presets in PEERS.values() for name in presets]
    groups = []
    for name in dict.fromkeys((*first.values(), *shared)):
        batch = min(scale.batch, 32, PRESETS[name].training.batch_size)
        sizes = {"name": name, "batch": batch}
        cases = {**both("step", **sizes), **public("step", peers, name, **sizes)}
        groups.append(Group(f"A training step of {name}, batch {batch}", cases, images=batch))
        if len(cases) > len(WINGS):
            groups.append(Group(f"Memory of a training step of {name}", cases, unit="MiB"))
    return groups


def evaluation(scale: Scale, peers: Mapping[str, str]) -> list[Group]:
    sizes = {"name": scale.preset, "batch": scale.batch, "images": scale.images}
    cases = {
        **both("evaluate", **sizes),
        **public("evaluate", peers, **sizes),
        **both("evaluate", ", direct convolutions", convolution="direct", **sizes),
    }
    title = f"Evaluation of {scale.images} images by {scale.preset}, batch {scale.batch}"
    return [Group(title, cases, images=scale.images)]


def convolution(scale: Scale, peers: Mapping[str, str]) -> list[Group]:
    groups = []
    for what, backward in (("forward and backward", True), ("forward, the kernel kept", False)):
        sizes = {"name": scale.preset, "batch": scale.batch, "backward": backward}
        cases = {
            **both("conv", " Fourier", method="fourier", **sizes),
            **both("conv", " direct", method="direct", **sizes),
        }
        title = f"The primary convolution of {scale.preset}, batch {scale.batch}, {what}"
        groups.append(Group(title, cases))
    return groups


def memory(scale: Scale, peers: Mapping[str, str]) -> list[Group]:
    sizes = {"name": scale.preset, "batch": scale.batch}
    steps = {
        **both("step", **sizes),
        **public("step", peers, **sizes),
        **both("step", ", direct convolutions", convolution="direct", **sizes),
        **both("step", ", votes stored", lean=False, **sizes),
    }
    layers = {}
    for count in scale.iterations[1::2]:
        layers |= both("digit", f", r = {count}", num_iters=count, **sizes)
    title = f"{scale.preset}, batch {scale.batch}"
    note = (
        "Resident memory at its highest over what the process held with everything imported: "
        "weights, gradients, slots of the optimiser and the compiler included. Read once."
    )
    return [
        Group(f"Memory of a training step of {title}", steps, unit="MiB", note=note),
        Group(f"Memory of the digit layer of {title}", layers, unit="MiB"),
    ]


def startup(scale: Scale, peers: Mapping[str, str]) -> list[Group]:
    train = ["train.py", "--preset", scale.preset, "--out", "{folder}/run", "--backend"]
    commands = {
        "import torch_caps": ["-c", "import torch_caps.training"],
        "import jax_caps": ["-c", "import jax_caps.training"],
        "import torch": ["-c", "import torch"],
        "import jax": ["-c", "import jax"],
        "train.py --help": ["train.py", "--help"],
        "first step, torch": [*train, "torch"],
        "first step, jax": [*train, "jax"],
    }
    note = "The second start and later ones; a first step ends when its line of metrics is written."
    return [Group("Start-up", commands=commands, unit="s", note=note)]


SECTIONS: dict[str, Callable[[Scale, Mapping[str, str]], list[Group]]] = {
    each.__name__: each
    for each in (step, digit, networks, evaluation, convolution, memory, startup)
}
