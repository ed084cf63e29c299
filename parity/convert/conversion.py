"""`convert`: weights of any kind of file and any layout, into any format."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from parity.convert import formats, orbax_folder
from parity.convert.foreign import Adopted, adopt
from parity.convert.formats import File
from parity.convert.installed import needed
from parity.convert.layouts import LAYOUTS, Layout, native
from parity.runs import chosen
from parity.spec import PRESETS, NetworkSpec, TrainedOn, TwincapsError, from_dict, preset_card
from parity.weights import FORMAT, WeightsError, folders, pretrained_file, pretrained_names, table

NATIVE = {"torch": "state_dict of torch_caps", "canonical": "canonical axes, as in jax_caps"}


def convert(
    src: str | os.PathLike,
    dst: str | os.PathLike,
    *,
    to: str | None = None,
    layout: str | Layout | None = None,
    preset: str | None = None,
    spec: NetworkSpec | None = None,
    best: bool = False,
    force: bool = False,
) -> Adopted:
    """Reads weights of any kind from `src`, writes them to `dst` and returns them.

    Args:
        src: .safetensors, .pt, .msgpack, .h5, .npz, an orbax checkpoint, a run folder or one
            checkpoint of it, recognised by content; or the name of a network that comes with
            twincaps.
        dst: The file or folder to write.
        to: canonical, torch, flax or orbax; None for what the suffix of `dst` says.
        layout: "torch" or "canonical" axes, a name of `LAYOUTS`, or a `Layout`; needed only where
            a file without a header fits several.
        preset: The network of a file without a spec, its sizes inferred from its tensors.
        spec: The same, with exactly these sizes.
        best: Whether to take a run's best checkpoint instead of its newest whole one.
        force: Whether to replace `dst`.

    Raises:
        TwincapsError: Where something does not fit; `dst` stays as it was.
    """
    dst = Path(dst)
    to = formats.format_of(dst, to)
    _refuse_occupied(dst, to, force)
    net = network(src, layout=layout, preset=preset, spec=spec, best=best)
    with _telling(dst, "written"):
        formats.write(dst, to, net.spec, net.arrays, net.trained_on)
    return net


def network(
    path: str | os.PathLike,
    *,
    layout: str | Layout | None = None,
    preset: str | None = None,
    spec: NetworkSpec | None = None,
    best: bool = False,
) -> Adopted:
    """The spec and canonical weights of a file or run, as `convert` reads them."""
    if preset is not None and spec is not None:
        raise TwincapsError("give a preset or a spec, not both")
    asked = preset_card(preset).network if preset is not None else spec
    path = located(path)
    with _telling(path, "read"):
        if formats.kind_of(path) in ("run", "checkpoint"):
            file = formats.read(_checkpoint(path, best) / "weights.safetensors")
        else:
            file = formats.read(path, layout if isinstance(layout, Layout) else None)
    if file.header is None:
        if asked is None:
            raise TwincapsError(
                f"{path}: does not say what network it is; name a preset with its strides, image "
                f"size and options (--preset {', '.join(PRESETS)})"
            )
        layouts, sizes = layouts_for(file, layout), preset is not None
        net = adopt(str(file.path), file.tensors, layouts, asked, infer_sizes=sizes)
        return replace(net, source=file.path, taken=file.taken)
    net = headed(file)
    if asked not in (None, net.spec):
        raise TwincapsError(
            f"{path}: its own header says what network it is, and that is not the one asked for; "
            "leave the preset out"
        )
    if layout not in (None, net.layout):
        raise TwincapsError(f"{path}: its own header says that it is in {net.layout} layout")
    return net


def located(path: str | os.PathLike) -> Path:
    """The path; the weights file of a network of the package, or of a shared folder."""
    name = os.fspath(path)
    if name in pretrained_names():
        return pretrained_file(name)
    shared = Path(path) / folders.MODEL
    return shared if shared.is_file() else Path(path)


@contextlib.contextmanager
def _telling(path: Path, what: str) -> Iterator[None]:
    """Turns the system's refusals (full disk, forbidden folder) into a TwincapsError."""
    try:
        yield
    except OSError as error:
        raise TwincapsError(
            f"{path}: could not be {what} ({error.strerror or error}); nothing was changed"
        ) from error


def _checkpoint(path: Path, best: bool) -> Path:
    """A checkpoint itself, or of a run the newest whole or the best one."""
    if formats.kind_of(path) == "checkpoint":
        return path
    _, checkpoint = chosen(path, best=best)
    return checkpoint.path


def own_layouts(file: File) -> list[str]:
    """The layouts of `NATIVE` for a file without a header; none if its names differ."""
    if not {"digit.kernel", "primary.kernel"} & file.tensors.keys():
        return []
    layouts = {"torch": ["torch"], "msgpack": ["canonical"], "orbax": ["canonical"]}
    return layouts.get(file.kind, list(NATIVE))


def layouts_for(file: File, asked: str | Layout | None) -> Mapping[str, Layout]:
    """The layouts that a file without a header may have, by name."""
    if isinstance(asked, Layout):
        return {"given": asked}
    own = own_layouts(file)
    if asked is None and len(own) > 1:
        raise TwincapsError(
            f"{file.path}: has our names but does not say in whose axes, and shapes cannot tell; "
            "say --layout torch or --layout canonical"
        )
    if asked is None and not own:
        return LAYOUTS
    asked = asked or own[0]
    if asked in NATIVE:
        orders = needed("torch_caps.arrays", file.path).AXES if asked == "torch" else {}
        return {asked: native(orders, NATIVE[asked])}
    if asked not in LAYOUTS:
        raise TwincapsError(
            f"layout {asked!r} is unknown; expected one of {', '.join([*NATIVE, *LAYOUTS])}"
        )
    return {asked: LAYOUTS[asked]}


def headed(file: File) -> Adopted:
    """The network of a file with a header, strictly as the header says."""
    header = file.header or {}
    kinds = {FORMAT: "canonical", formats.TORCH: "torch"}
    if header["format"] not in kinds:
        raise WeightsError(f"{file.path}: holds {header['format']}, expected a network's weights")
    spec, axes = from_dict(NetworkSpec, header.get("spec")), header.get("axes")
    if not isinstance(axes, dict) or set(axes) != set(table(spec)):
        raise WeightsError(f"{file.path}: its header does not name the axes of its tensors")
    name = kinds[header["format"]]
    rows = {tensor: (tensor, str(order)) for tensor, order in axes.items()}
    layout = Layout(name, rows, capsules="h w type", pixels="H W C")
    plain = header.get("trained_on")
    known = None if plain is None else from_dict(TrainedOn, plain)
    return replace(adopt(str(file.path), file.tensors, {name: layout}, spec), trained_on=known)


def _refuse_occupied(dst: Path, to: str, force: bool) -> None:
    if not dst.parent.is_dir():
        raise TwincapsError(f"{dst.parent}: no such folder")
    if not dst.exists():
        return
    if not force:
        raise TwincapsError(f"{dst}: exists; --force replaces it")
    orbax = to == "orbax" and dst.is_dir() and formats.kind_of(dst) == "orbax"
    if dst.is_dir() and not (orbax and orbax_folder.checkpoint(dst) == dst):
        raise TwincapsError(f"{dst}: a folder, and --force replaces no folder but an orbax one")
    if to == "orbax" and not dst.is_dir():
        raise TwincapsError(f"{dst}: a file, and an orbax checkpoint is a folder")
