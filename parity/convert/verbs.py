"""`python -m parity convert` and `inspect`: the command lines of this package."""

import json as jsonlib
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from parity.convert import conversion, inspection
from parity.spec import preset as preset_of
from parity.spec import printable, to_dict


def _shown(metavar: str, unset: str) -> Any:
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {unset})")


def convert(
    src: Annotated[str, tyro.conf.arg(metavar="SRC")],
    dst: Annotated[str, tyro.conf.arg(metavar="DST")],
    to: Annotated[str | None, _shown("FORMAT", "what the suffix of DST says")] = None,
    layout: Annotated[str | None, _shown("NAME", "the one that fits")] = None,
    preset: Annotated[str | None, _shown("NAME", "what SRC says")] = None,
    best: bool = False,
    force: bool = False,
    json: bool = False,
) -> None:
    """Carry weights from one framework, file or layout to another, bit for bit.

    Args:
        src: A .safetensors, .pt, .msgpack, .h5 or .npz file, an orbax checkpoint, a run folder, or
            the name of a network that comes with twincaps.
        dst: The file to write, or the folder for orbax.
        to: canonical, torch, flax or orbax.
        layout: Whose names and axes SRC has: torch, canonical, or a row of docs/formats.md.
        preset: What network SRC is, where it does not say; its sizes are those of its tensors.
        best: Of a run, take the checkpoint of the best accuracy on validation images, or without
            those on the test set, not the newest.
        force: Replace DST.
        json: Print one JSON object instead.
    """
    net = conversion.convert(src, dst, to=to, layout=layout, preset=preset, best=best, force=force)
    count = sum(array.size for array in net.arrays.values())
    dtypes = ", ".join(sorted({str(array.dtype) for array in net.arrays.values()}))
    if json:
        answer = {"wrote": dst, "parameters": count, "dtypes": dtypes, "layout": net.layout}
        answer |= {"source": str(net.source or src), "taken_off_names": list(net.taken)}
        print(jsonlib.dumps({**answer, "spec": to_dict(net.spec), "note": net.note}))
        return
    print(f"wrote {dst}: {count:,} parameters, {dtypes}, read in {net.layout} layout")
    if net.source is not None and net.source != Path(src):
        print(f"read from {net.source}")
    if net.taken:
        print(f"by their names without {', '.join(net.taken)}")
    if preset is not None:
        asked = vars(preset_of(preset))
        departures = [
            f"{name} {now} (preset {asked[name]})"
            for name, now in vars(net.spec).items()
            if now != asked[name]
        ]
        if departures:
            print(f"by the shapes of its tensors, not the preset's: {', '.join(departures)}")
    if net.note:
        print(f"the same weights, but mind what the code of {net.layout} does: {net.note}")


def inspect(path: Annotated[str, tyro.conf.arg(metavar="PATH")], json: bool = False) -> None:
    """Show what weights, a checkpoint or a run hold: names, axes, spec, checksums.

    Args:
        path: Anything that `convert` reads.
        json: Print one JSON object instead.
    """
    about = inspection.describe(path)
    if json:
        print(jsonlib.dumps(about, indent=1))
    else:
        _show(about, Console())


def _show(about: dict[str, Any], console: Console) -> None:
    for key, value in about.items():
        if key in ("weights", "optimizer") and isinstance(value, dict):
            console.print(Text(f"\n{key}", style="bold"))
            _show(value, console)
        elif key == "tensors":
            console.print(_table(value))
        else:
            shown = jsonlib.dumps(value) if isinstance(value, dict | list) else str(value)
            console.print(Text(f"{key:<12} {printable(shown)}"), soft_wrap=True)


def _table(rows: Any) -> Table:
    table = Table("name", "axes", "shape", "dtype", "sha256")
    for row in rows:
        shape = " x ".join(map(str, row["shape"]))
        cells = row["name"], row["axes"] or "?", shape, row["dtype"], row["sha256"][:12]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table
