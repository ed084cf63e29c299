"""Routings as ONNX operators: function NAME of the file `_NAME.py`, for each that has a graph."""

from collections.abc import Callable
from typing import Any

from parity.export.routing._dynamic import dynamic
from parity.export.routing._em import em
from parity.export.routing._inverted_attention import inverted_attention
from parity.export.routing._self_attention import self_attention
from parity.export.routing._self_routing import self_routing
from parity.export.routing._variational_bayes import variational_bayes

# By its name in `ROUTINGS`; of inverted attention a step, which the network repeats.
GRAPHS: dict[str, Callable[..., Any]] = {
    "dynamic": dynamic,
    "self_attention": self_attention,
    "self_routing": self_routing,
    "em": em,
    "variational_bayes": variational_bayes,
    "inverted_attention": inverted_attention,
}
