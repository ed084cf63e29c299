"""A port with a fault, and what parity diff must say of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity import diff

ISSUES = "https://github.com/{}/issues/{}"
PULLS = "https://github.com/{}/pull/{}"
FLAX = "https://flax.readthedocs.io/en/stable/migrating/convert_pytorch_to_flax.html"


@dataclass(frozen=True)
class Fault:
    """A fault of real ports.

    Attributes:
        name: The switch of the port that makes it.
        module: The left module where it must be named.
        kinds: The kinds that are right: more than one where the numbers leave it open.
        says: Words of a fact, where one is due.
        source: Where it was reported, or documented.
    """

    name: str
    module: str
    kinds: tuple[str, ...]
    source: str
    says: str = ""


@dataclass(frozen=True)
class Network:
    """A network with a right port and its faults; each part is made for a seed.

    Attributes:
        pair: (seed, fault or "") -> keyword arguments of `parity.diff.models`.
    """

    name: str
    frameworks: str
    pair: Callable[[int, str], dict[str, Any]]
    faults: Sequence[Fault]


def compare(network: Network, seed: int, fault: str = "", **options: Any) -> diff.Report:
    """The report of one pair."""
    return diff.models(**{"precision": "float64", **network.pair(seed, fault), **options})


def right(fault: Fault, report: diff.Report) -> str:
    """What is wrong with a report of a fault, "" where nothing is."""
    first = report.first
    if first is None:
        return "called equal"
    if first.module != fault.module:
        return f"named {first.module} ({first.place}; {first.kind})"
    if first.kind not in fault.kinds:
        return f"of kind {first.kind}: {'; '.join(first.facts)}"
    if fault.says not in "; ".join(first.facts):
        return f"says {'; '.join(first.facts)}"
    return ""


def normal(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    """Normal numbers in float32."""
    generator = np.random.Generator(np.random.Philox(seed))
    return (scale * generator.standard_normal(shape)).astype(np.float32)


def randomise(model: Any, seed: int) -> Any:
    """A torch module in evaluation mode with random numbers in every parameter and buffer."""
    for number, (name, tensor) in enumerate(model.state_dict().items()):
        if tensor.is_floating_point():
            x = normal(1000 * seed + number, *tensor.shape)
            if "running_var" in name:
                x = 0.5 + np.abs(x)
            elif tensor.ndim > 1:
                x = x / np.sqrt(tensor[0].numel())
            elif name.endswith("weight"):
                x = 1 + 0.3 * x
            tensor.copy_(tensor.new_tensor(x))
    return model.eval()


def array(tensor: Any, *axes: int) -> np.ndarray:
    """A parameter of torch as NumPy, its axes permuted."""
    x = tensor.detach().numpy()
    return x.transpose(axes) if axes else x
