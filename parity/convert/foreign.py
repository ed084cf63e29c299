"""Canonical weights from tensors in the one layout that fits, or why none does."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from parity.convert.fit import apart, build, faults, infer
from parity.convert.layouts import Layout
from parity.convert.match import match
from parity.spec import NetworkSpec, TrainedOn
from parity.weights import Arrays, WeightsError

SHOWN = 20  # names in a message, of a file that may have thousands


@dataclass(frozen=True)
class Adopted:
    """A network read from tensors: its spec, canonical weights and their layout.

    Attributes:
        note: What the code of that layout does otherwise with the same weights.
        trained_on: As the file says.
        source: The file it was read from, where that is one of several in a folder.
        taken: Parts of names that a framework's tools had added, as `names.unwrapped` gives them.
    """

    spec: NetworkSpec
    arrays: Arrays
    layout: str
    note: str
    source: Path | None = None
    taken: tuple[str, ...] = ()
    trained_on: TrainedOn | None = None


def adopt(
    what: str,
    tensors: Arrays,
    layouts: Mapping[str, Layout],
    spec: NetworkSpec,
    infer_sizes: bool = False,
) -> Adopted:
    """Canonical weights from the one layout that fits; raises WeightsError.

    Args:
        what: The file, for messages.
        tensors: Those of the file, by name.
        layouts: Those to try, by name.
        spec: The network that it should be.
        infer_sizes: Whether the shapes may give other sizes than `spec` has (channels, kernels,
            types, classes, poses, decoder), never other options.
    """
    if len(layouts) == 1:
        _refuse(what, *next(iter(layouts.items())))
    fitting: dict[str, NetworkSpec] = {}
    faulty: dict[str, list[str]] = {}
    for name, layout in layouts.items():
        hits, own = match(layout, tensors), apart(layout, tensors, spec)
        faulty[name] = faults(hits, layout, own, spec)
        other = infer(hits, layout, own, spec) if infer_sizes and faulty[name] else None
        if not faulty[name]:
            fitting[name] = spec
        elif other is not None and not faults(hits, layout, own, other):
            fitting[name] = other
    if not fitting:
        raise WeightsError(_unfit(what, faulty, tensors, layouts))
    if len(fitting) > 1:
        raise WeightsError(_ambiguous(what, {name: layouts[name] for name in fitting}))
    ((name, fit),) = fitting.items()
    layout = layouts[name]
    _refuse(what, name, layout)
    arrays = build(match(layout, tensors), layout, apart(layout, tensors, fit), fit)
    return Adopted(fit, arrays, name, layout.note)


def _refuse(what: str, name: str, layout: Layout) -> None:
    if layout.refused:
        raise WeightsError(f"{what}: layout {name} cannot be converted: {layout.refused}")


def _unfit(
    what: str, faulty: Mapping[str, list[str]], tensors: Arrays, layouts: Mapping[str, Layout]
) -> str:
    nearest = min(faulty, key=lambda name: len(faulty[name]))
    strange = match(layouts[nearest], tensors).unexpected
    if len(faulty) > 1 and 2 * len(strange) > len(tensors):  # no layout is near
        names = [f"{name} {tensors[name].shape}" for name in sorted(tensors)]
        more = "" if len(names) <= SHOWN else f"\n  and {len(names) - SHOWN} more"
        return (
            f"{what}: the names of its {len(names)} tensors fit no layout; expected ours or those "
            f"of {', '.join(faulty)}, or a `Layout` of your own (docs/formats.md)\n  "
            + "\n  ".join(names[:SHOWN])
            + more
        )
    listed = "\n  ".join(sorted(faulty[nearest]))
    fault = f"not this network in layout {nearest}"
    if len(faulty) > 1:
        fault += f", the nearest of {', '.join(faulty)}"
    return f"{what}: {fault}; faults: {len(faulty[nearest])}\n  {listed}"


def _ambiguous(what: str, fitting: Mapping[str, Layout]) -> str:
    listed = "\n  ".join(
        f"{name}: {layout.source}"
        + (f" (cannot be converted: {layout.refused})" if layout.refused else "")
        for name, layout in fitting.items()
    )
    return (
        f"{what}: its names fit {len(fitting)} layouts, and nothing in the file tells them apart; "
        f"name that of the code which wrote it with --layout NAME:\n  {listed}"
    )
