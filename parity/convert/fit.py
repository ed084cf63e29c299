"""Fits matched tensors to a spec: faults, sizes, and the canonical arrays.

Here a pattern has every axis spelt out: an axis that layers do not share carries its layer's name
("stem.0.out"), input capsules are "(h w type)", channels of the primary layer "(type k)", pixels
"(H W C)", each in the layout's order. Two patterns of one tensor then differ in order alone.
"""

import dataclasses
import re

import numpy as np

from parity.convert.axes import Sizes, parse, reorder, shape, solve
from parity.convert.layouts import Layout
from parity.convert.match import Match
from parity.spec import Conv, NetworkSpec, Rajasegaran2019, SpecError
from parity.weights import FLOATS, Arrays, table

_SHARED = {"type", "k", "j", "d"}
_CANONICAL = Layout("canonical", {}, capsules="h w type", channels="type k", pixels="H W C")


def spell(name: str, axes: str, layout: Layout, last: int) -> str:
    """The pattern of one tensor; `last` is the number of the decoder's last layer."""
    layer = name.rpartition(".")[0]
    spelt = {}
    if layer in ("primary", "digit"):
        spelt = {axis: axis for axis in _SHARED} | {"i": f"({layout.capsules})"}
    if layer == "primary":
        spelt["out"] = f"({layout.channels})"
    if layer.startswith("cell."):  # capsules on both sides of a convolution
        spelt = {"in": f"({layer}.t {layer}.k)", "out": f"({layer}.u {layer}.v)"}
        spelt |= {"j": f"{layer}.u", "d": f"{layer}.v"}
    if layer == f"decoder.{last}":
        spelt["out"] = f"({layout.pixels})"
    return re.sub(r"[A-Za-z]+", lambda axis: spelt.get(axis[0], f"{layer}.{axis[0]}"), axes)


def _file_patterns(hits: Match, layout: Layout, last: int) -> dict[str, str]:
    return {name: spell(name, hits.axes[name], layout, last) for name in hits.sources}


def _canonical_patterns(spec: NetworkSpec) -> dict[str, str]:
    rows = table(spec)
    return {name: spell(name, row.axes, _CANONICAL, _last(spec)) for name, row in rows.items()}


def _last(spec: NetworkSpec) -> int:
    """The number of the decoder's dense layer that makes the pixels, -1 where none does."""
    return -1 if spec.decoder is None or spec.upsampling else len(spec.decoder)


def sizes(spec: NetworkSpec) -> Sizes:
    """The size of every axis in the patterns of a network's tensors."""
    (h, w), (height, width, channels) = spec.grid, spec.image
    known = {"type": spec.primary.types, "k": spec.primary.size, "h": h, "w": w}
    known |= {"j": spec.classes, "d": spec.pose, "H": height, "W": width, "C": channels}
    rows, patterns = table(spec), _canonical_patterns(spec)
    known |= _cells(spec) if isinstance(spec, Rajasegaran2019) else {}
    return solve([(patterns[name], row.shape) for name, row in rows.items()], known)


def _cells(spec: Rajasegaran2019) -> Sizes:
    """Of each convolution of a cell the types and the size of a pose, read (t k) and made (u v)."""
    known, types, size = {}, table(spec)["cell.0.caps.0.kernel"].shape[2], 1
    last = len(spec.capsules) - 1
    for n, cell in enumerate(spec.capsules):
        for name in ("caps.0", "skip", "caps.1", "caps.2"):
            layer = f"cell.{n}.{name}"
            alone = (n, name) == (last, "skip")  # the routing's kernel reads one capsule
            known |= {f"{layer}.t": 1 if alone else types, f"{layer}.k": size}
            known |= {f"{layer}.u": cell.types, f"{layer}.v": cell.size}
            types, size = cell.types, cell.size
    return known


def apart(layout: Layout, tensors: Arrays, spec: NetworkSpec) -> Arrays:
    """A file's tensors, those that hold several taken apart as this network's sizes say."""
    rows, result = table(spec), dict(tensors)
    for name in layout.joined.keys() & tensors.keys():
        pieces, whole = layout.joined[name], result.pop(name)
        sizes = [rows[ours].shape[-1] if ours in rows else 0 for ours in pieces.values()]
        if whole.ndim == 0 or len(whole) != sum(sizes):  # its shape is a fault of each
            result |= dict.fromkeys(pieces, whole)
        else:
            result |= dict(zip(pieces, np.split(whole, np.cumsum(sizes)[:-1]), strict=True))
    return result


def faults(hits: Match, layout: Layout, tensors: Arrays, spec: NetworkSpec) -> list[str]:
    """Everything that keeps a file's tensors from being this network."""
    rows, every = table(spec), sizes(spec)
    patterns, wanted = _file_patterns(hits, layout, _last(spec)), _canonical_patterns(spec)
    extra = [one for name in hits.sources if name not in rows for one in hits.sources[name]]
    listed = [f"unexpected {name} {tensors[name].shape}" for name in hits.unexpected + extra]
    for name in rows:
        if name not in hits.sources:
            template = layout.tensors.get(name) or layout.tensors.get(re.sub(r"\d", "{n}", name))
            listed.append(f"missing {name} ({template[0] if template else 'not in this layout'})")
        elif _names(patterns[name]) != _names(wanted[name]):
            listed.append(f"{name} has axes {hits.axes[name]!r}, expected {rows[name].axes!r}")
        else:
            expected = shape(patterns[name], every)
            if name in hits.stacked:
                expected, count = expected[1:], expected[0]
                if len(hits.sources[name]) != count:
                    is_ = f"is made of {len(hits.sources[name])} tensors"
                    listed.append(f"{name} {is_} {layout.tensors[name][0]}, expected {count}")
            listed += _faults_of(hits.sources[name], tensors, expected, hits.axes[name])
    for name in hits.zero:
        if np.any(tensors[name]):
            listed.append(f"{name} is not 0: learned starting logits, canonical ones start at 0")
    return listed


def _names(pattern: str) -> list[str]:
    return sorted(axis for group in parse(pattern) for axis in group)


def _faults_of(
    group: list[str], tensors: Arrays, expected: tuple[int, ...], axes: str
) -> list[str]:
    listed = []
    for name in group:
        shape, dtype = tuple(tensors[name].shape), str(tensors[name].dtype)
        if shape != expected:
            listed.append(f"{name} has shape {shape}, expected {expected} ({axes})")
        if dtype not in FLOATS:
            listed.append(f"{name} has dtype {dtype}, expected one of {', '.join(FLOATS)}")
        elif dtype != str(tensors[group[0]].dtype):
            listed.append(f"{name} has dtype {dtype}, expected that of {group[0]}")
    return listed


def build(hits: Match, layout: Layout, tensors: Arrays, spec: NetworkSpec) -> Arrays:
    """The canonical arrays of a match without faults, in the order of execution."""
    every, patterns = sizes(spec), _file_patterns(hits, layout, _last(spec))
    arrays = {}
    for name, target in _canonical_patterns(spec).items():
        whole = np.stack([tensors[source] for source in hits.sources[name]])
        arrays[name] = reorder(whole, patterns[name], target, every)
    return arrays


def infer(hits: Match, layout: Layout, tensors: Arrays, base: NetworkSpec) -> NetworkSpec | None:
    """`base` with the sizes that the shapes give; None where they fit no network.

    What no shape tells stays that of `base`: strides, height and width of the image, and every
    option. Where shapes leave a size open (j * d alone is known, say), it is that of `base` too.
    """
    names = {field.name for field in dataclasses.fields(base)}  # pyright: ignore
    if not {"primary", "decoder"} <= names:
        return None  # of cells and of layers of windows the shapes leave too much open
    layers = {name.split(".")[1] for name in hits.sources if name.startswith("decoder.")}
    shapes, last = [], len(layers) - 1
    hidden = last if base.upsampling is None else len(base.decoder or ())
    pixels = last if hidden == last else -1
    for name, pattern in _file_patterns(hits, layout, pixels).items():
        group = hits.sources[name]
        one = tuple(tensors[group[0]].shape)
        shapes.append((pattern, (len(group), *one) if name in hits.stacked else one))
    known, of_base = solve(shapes, {}), sizes(base)
    for axis in ("k", "d", "H", "W"):
        known = solve(shapes, {axis: of_base[axis], **known})
    stem = [f"stem.{n}" for n in range(len(base.stem))]
    try:
        primary = dataclasses.replace(
            base.primary, types=known["type"], size=known["k"], kernel=known["primary.kh"]
        )
        inferred = dataclasses.replace(
            base,
            image=(*base.image[:2], known["stem.0.in" if stem else "primary.in"]),
            stem=tuple(
                Conv(known[f"{layer}.out"], known[f"{layer}.kh"], old.stride)
                for layer, old in zip(stem, base.stem, strict=True)
            ),
            primary=primary,
            classes=known["j"],
            pose=known["d"],
            decoder=tuple(known[f"decoder.{n}.out"] for n in range(hidden)) if layers else None,
        )
    except (SpecError, KeyError):
        return None
    # The authors' code divides by the number of types: with others, `scale` is not base's.
    scale = getattr(base.primary, "scale", 1)
    same_scale = scale == 1 or primary.types == base.primary.types
    return inferred if same_scale else None
