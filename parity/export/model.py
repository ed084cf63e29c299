"""A network's forward pass as an ONNX model, from its spec and canonical arrays.

Axes: B batch, J classes, D size of a pose, P classes in an image, H W C image.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from parity.export import routing
from parity.export.graph import Graph, Port
from parity.export.layers import lengths
from parity.export.networks import GRAPHS
from parity.spec import NetworkSpec, TrainedOn, TwincapsError, to_dict
from parity.weights import Arrays, check, table

if TYPE_CHECKING:
    from onnx import ModelProto

# Of 2022: ONNX Runtime reads them since its version 1.12.
OPSET, IR = 17, 8
LARGEST = 2**31 - 2**20  # bytes of a protobuf message, less room for the graph


def graph(spec: NetworkSpec, arrays: Arrays, things: int = 1, dtype: str = "float32") -> Graph:
    """The graph of a network: images in, poses, scores and reconstruction out.

    Args:
        spec: What the network is.
        arrays: Its parameters by their canonical names.
        things: Classes that each image shows, P; above 1 there is a reconstruction of each.
        dtype: float32 or float64, of all floating numbers.

    Raises:
        TwincapsError: Where the network or its routing has no graph.
    """
    if why := ungraphed(spec):
        raise TwincapsError(why)
    check(arrays, table(spec))
    g, network = Graph(dtype), GRAPHS[spec.network]
    images = g.input("images", ("batch", *spec.image), "pixels in 0 to 1")
    poses, activations = network.encode(g, spec, arrays, images)
    if poses is not None:
        poses = g("Identity", poses, name="poses")
        g.output(poses, ("batch", spec.classes, spec.pose), "the capsule of each class")
    if activations is not None:
        scores, about = g("Identity", activations, name="scores"), "activations: the largest"
    else:
        assert poses is not None
        scores = lengths(g, poses, "scores", spec.length_epsilon, spec.length_offset)
        about = "lengths: the longest"
    g.output(scores, ("batch", spec.classes), f"their {about} is the answer")
    if spec.decoder is not None:
        several = () if things == 1 else (things,)
        masked = g("Reshape", _masked(g, spec, things), [0, *several, spec.classes * spec.pose])
        pixels = network.decode(g, spec, arrays, masked)
        drawn = g("Reshape", pixels, [-1, *several, *spec.image], name="reconstruction")
        about = "of the answer, from its capsule alone, in 0 to 1"
        g.output(drawn, ("batch", *several, *spec.image), about)
    return g


def ungraphed(spec: NetworkSpec) -> str | None:
    """Why a network has no graph, and what to do; None where it has one."""
    known = {"network": (spec.network, GRAPHS), "routing": (spec.routing.name, routing.GRAPHS)}
    for what, (name, graphs) in known.items():
        if name not in graphs:
            return (
                f"{what} {name} has no ONNX graph; expected one of {', '.join(graphs)}, or export "
                "to .pt2 or .jax"
            )
    return None


def _masked(g: Graph, spec: NetworkSpec, things: int) -> str:
    """Poses, all but the answer's 0 (section 4.1): [B, J, D]; [B, P, J, D] of several answers.

    The longest comes first, and the first of equal lengths counts as longer.
    """
    if things == 1:
        answers, poses = g("ArgMax", "scores", axis=1, keepdims=0), "poses"
    else:
        _, answers = g.several("TopK", "scores", [things], names=("top", "answers"), axis=1)
        poses = g("Unsqueeze", "poses", [1])
    keep = g("OneHot", answers, spec.classes, [0.0, 1.0])
    return g("Mul", poses, g("Unsqueeze", keep, [-1]))


def build(
    spec: NetworkSpec,
    arrays: Arrays,
    trained_on: TrainedOn | None = None,
    source: str = "",
    dtype: str = "float32",
) -> "ModelProto":
    """The ONNX model of a network; arguments as those of `graph`.

    Args:
        spec: What the network is.
        arrays: Its parameters by their canonical names.
        trained_on: Names its classes, and says how many of them an image shows.
        source: In words, what it is.
        dtype: float32 or float64.

    Raises:
        TwincapsError: Where it has no graph, or does not fit into one file.
        ImportError: Where `onnx` is missing.
    """
    from onnx import helper, numpy_helper

    about = trained_on or TrainedOn()
    g = graph(spec, arrays, about.things, dtype)
    size = sum(array.nbytes for array in g.constants.values())
    if size > LARGEST:
        raise TwincapsError(f"an ONNX file holds 2 GiB, and these weights are {size:,} bytes")
    nodes = [
        helper.make_node(n.operator, n.inputs, n.outputs, n.outputs[0], **n.attributes)
        for n in g.nodes
    ]
    made = helper.make_graph(
        nodes,
        "twincaps",
        [_port(each, g.dtype) for each in g.inputs],
        [_port(each, g.dtype) for each in g.outputs],
        [numpy_helper.from_array(array, name) for name, array in g.constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(
        made, opset_imports=opsets, ir_version=IR, producer_name="twincaps",
        producer_version=version("twincaps"),
    )  # fmt: skip
    helper.set_model_props(model, metadata(spec, about, source))
    return model


def metadata(spec: NetworkSpec, trained_on: TrainedOn, source: str) -> dict[str, str]:
    """What a model says of itself, each value text, and JSON where it is more than a word."""
    about: Mapping[str, Any] = {
        "spec": to_dict(spec),
        "classes": trained_on.names(spec.classes),
        "trained_on": to_dict(trained_on),
    }
    return {"source": source, **{key: json.dumps(each) for key, each in about.items()}}


def _port(port: Port, dtype: Any) -> Any:
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(dtype)
    return helper.make_tensor_value_info(port.name, kind, port.shape, port.about)
