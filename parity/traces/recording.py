"""A trace: every named tensor of a forward and backward pass, in one file.

    value/<name>      the tensor at each tap and every parameter (`parameter/<name>`)
    gradient/<name>   the gradient of the loss by it
    labels            of the batch; its images are value/image

The header holds the order of execution, the request (what was asked: spec, seed, batch ...) and
what the wing reported of its versions, device and switches.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.spec import NetworkSpec, TwincapsError, from_dict
from parity.weights import SCHEMA, Arrays, digest, load_arrays, save_arrays

FORMAT = "twincaps-trace"
# What a request says; two traces can be compared when they agree in all of `SHARED`.
SHARED = ("spec", "seed", "batch", "precision", "weights", "images")
REQUEST = (*SHARED, "backend", "mode", "device", "source")
OPTIONAL = {"train"}  # False for a pass of an evaluation, absent for one of a training step

# What a parameter feeds: the beginning of its name -> the first tap that depends on it.
FEEDS = {
    **{"primary.kernel": "primary.conv", "primary.bias": "primary.conv"},
    **{"digit.kernel": "votes", "decoder": "reconstruction"},
}


class TraceError(TwincapsError):
    """A file that is no whole trace, or two traces that cannot be compared."""


def execution_order(names: Iterable[str], spec: NetworkSpec) -> list[str]:
    """Names in order of execution: each parameter just before its first tap.

    The backward pass visits the same names from the last to the first.
    """
    names = list(names)
    first = next((name for name in names if name.startswith("routing.")), "votes")
    owned = spec.routing.owned.items()
    feeds = {**FEEDS, **{f"digit.{name}": own.feeds or first for name, own in owned}}
    order = [name for name in names if not name.startswith("parameter/")]
    for name in names:
        if name.startswith("parameter/"):
            plain = name.removeprefix("parameter/")
            tap = next((tap for head, tap in feeds.items() if plain.startswith(head)), None)
            layer = plain.rpartition(".")[0]
            # Where a layer shows no tensor of its name, its first one: stem.0.conv, say.
            fed = (each for each in order if each == layer or each.startswith(f"{layer}."))
            tap = tap or next(fed, "")
            order.insert(order.index(tap) if tap in order else 0, name)
    return order


@dataclass(frozen=True, eq=False)
class Trace:
    """The tensors of one pass, in the order of execution; see the top of this file."""

    request: dict[str, Any]
    report: dict[str, Any]
    values: Arrays
    gradients: Arrays
    labels: np.ndarray

    @property
    def spec(self) -> NetworkSpec:
        """The network that was traced."""
        return from_dict(NetworkSpec, self.request["spec"])

    @property
    def train(self) -> bool:
        """Whether the pass is that of a training step."""
        return self.request.get("train", True)

    @property
    def name(self) -> str:
        """Which wing, how and where: "torch", "jax eager", or "torch on cuda"."""
        mode, device = self.request["mode"], self.request["device"]
        how = "" if mode == "usual" else f" {mode}"
        return self.request["backend"] + how + ("" if device == "cpu" else f" on {device}")

    def pack(self) -> tuple[Arrays, dict[str, Any]]:
        """Arrays and header of the file."""
        arrays = {"labels": self.labels}
        for kind, tensors in (("value", self.values), ("gradient", self.gradients)):
            arrays |= {f"{kind}/{name}": array for name, array in tensors.items()}
        header = {"format": FORMAT, "schema": SCHEMA, "order": list(self.values)}
        return arrays, header | {"request": self.request, "report": self.report}

    def save(self, path: str | os.PathLike) -> None:
        """Writes one safetensors file, whole or not at all."""
        save_arrays(path, *self.pack())


def make(
    request: Mapping[str, Any],
    report: Mapping[str, Any],
    traced: tuple[Arrays, Arrays],
    labels: np.ndarray,
) -> Trace:
    """The trace of what a wing's `training.trace` returned."""
    values, gradients = traced
    order = execution_order(values, from_dict(NetworkSpec, request["spec"]))
    assert set(request) - OPTIONAL == set(REQUEST), set(request) ^ set(REQUEST)
    values, gradients = ({name: arrays[name] for name in order} for arrays in (values, gradients))
    # As a file gives it back, with lists for tuples: traces of either kind can be compared.
    plain = json.loads(json.dumps(dict(request)))
    return Trace(plain, dict(report), values, gradients, np.asarray(labels))


def load(path: str | os.PathLike) -> Trace:
    """The trace in a file; raises TwincapsError if it is not a whole trace."""
    arrays, header = load_arrays(path, FORMAT)
    order: list[str] = _told(header, "order", [])
    request: dict[str, Any] = _told(header, "request", {})
    names = [f"{kind}/{name}" for name in order for kind in ("value", "gradient")]
    if set(request) - OPTIONAL != set(REQUEST) or set(arrays) != {"labels", *names} or not order:
        raise TraceError(f"{path}: a trace whose header does not name its tensors; trace it again")
    from_dict(NetworkSpec, request["spec"])
    values, gradients = (
        {name: arrays[f"{kind}/{name}"] for name in order} for kind in ("value", "gradient")
    )
    return Trace(request, header.get("report", {}), values, gradients, arrays["labels"])


def _told(header: Mapping[str, Any], name: str, otherwise: Any) -> Any:
    """A value of a header, if it is of the right kind."""
    value = header.get(name)
    return value if isinstance(value, type(otherwise)) else otherwise


def refuse_unlike(a: Trace, b: Trace) -> None:
    """Raises TraceError, with every mismatch, for traces of different requests."""
    requests = [{**trace.request, "train": trace.train} for trace in (a, b)]
    unlike = [name for name in (*SHARED, "train") if requests[0][name] != requests[1][name]]
    if unlike:
        listed = "\n  ".join(
            f"{name}: {_short(requests[0][name], requests[1][name])}" for name in unlike
        )
        raise TraceError(
            "the two traces are not of the same network, batch and precision; trace both wings "
            f"with the same arguments:\n  {listed}"
        )


def _short(a: Any, b: Any) -> str:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = [key for key in {**a, **b} if a.get(key) != b.get(key)]
        return "; ".join(f"{key} {a.get(key)!r} and {b.get(key)!r}" for key in keys)
    return f"{a} and {b}"


def fingerprint(arrays: Mapping[str, np.ndarray]) -> str:
    """The first digits of a SHA-256 over names, dtypes, shapes and bytes."""
    return digest(arrays, {})[:16]
