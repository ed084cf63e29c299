"""What a layout is: where a file has each canonical tensor, and how its axes lie there."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from parity.spec import NetworkSpec, Routing
from parity.weights import table

Rows = dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Layout:
    """Where each canonical tensor is found, and in which order its axes lie.

    Attributes:
        source: Who publishes it.
        tensors: Canonical name -> (name there, axes there); a name with `{k}` or `{type}` is one
            tensor for each, stacked along a first axis.
        capsules: The order of the input capsules, the axis i.
        channels: The order of the primary convolution's output channels, where it is one
            convolution.
        pixels: The order of the decoder's outputs.
        joined: Tensors that hold several, one after another along their first axis: the names in
            `tensors` of these, and the canonical ones.
        zero: Tensors that canonical routing has no place for unless they are all 0.
        ignored: A regular expression of names that are no weights: optimiser slots, counters.
        refused: Why canonical weights cannot express it, "" where they can.
        note: Where its own code computes something else from the same weights.
    """

    source: str
    tensors: Rows = field(repr=False)
    capsules: str = "type h w"
    channels: str = "type k"
    pixels: str = "C H W"
    joined: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    zero: tuple[str, ...] = ()
    ignored: str = ""
    refused: str = ""
    note: str = ""


def native(orders: Mapping[str, str], source: str) -> Layout:
    """The layout of canonical names; `orders` has the axes a wing orders otherwise."""
    with_all = NetworkSpec(routing=Routing(bias=True))
    axes = {re.sub(r"\d+", "{n}", name): row.axes for name, row in table(with_all).items()}
    rows = {name: (name, orders.get(order, order)) for name, order in axes.items()}
    return Layout(source, rows, capsules="h w type", pixels="H W C")
