"""A network as a folder that can be shared: model.safetensors, config.json and a card.

`find` takes what users name: a network of the package, such a folder, or "owner/name" of one on
the Hugging Face Hub, whose client is imported for that alone. The weights file says all that is
loaded; config.json says it once more for people and for tools that read no weights, and the two
must agree.
"""

import difflib
import json
import math
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from parity.spec import NetworkSpec, TrainedOn, from_dict, gist, to_dict
from parity.weights._table import Arrays, WeightsError, table
from parity.weights.files import load, pretrained_file, pretrained_names, save, write_whole

MODEL, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
FORMAT = "twincaps"  # what config.json says under `model_type`

# Endings of files that one framework wrote for itself, and whose they are.
FOREIGN = {
    ".bin": "PyTorch",
    ".pt": "PyTorch",
    ".pth": "PyTorch",
    ".msgpack": "Flax",
    ".h5": "Keras",
    ".keras": "Keras",
    ".safetensors": "another program",
    ".onnx": "another program",
}


def load_folder(name: str | os.PathLike) -> tuple[NetworkSpec, Arrays]:
    """The spec and weights of a network by the name of `find`.

    Raises:
        WeightsError: As `find` does, and where config.json is missing, damaged, or of another
            network than the weights.
    """
    path = find(name)
    spec, arrays = load(path)
    if path.name == MODEL and config(path.parent) != spec:
        raise WeightsError(
            f"{path.parent}: {CONFIG} is of another network than {MODEL}; expected the files of "
            "one save_pretrained, save the network again"
        )
    return spec, arrays


def find(name: str | os.PathLike) -> Path:
    """The weights file of a network of the package, a folder, or a folder on the Hub.

    Args:
        name: "small-mnist" for example; a folder of `save_folder`; or "owner/name", for which the
            extra `hub` is needed, and which is kept in the Hub's own cache.

    Raises:
        WeightsError: Where there is no such thing, with the nearest name; or it is a folder of
            other files.
    """
    if name in pretrained_names():
        return pretrained_file(str(name))
    folder = Path(name)
    if folder.is_dir():
        return _model(folder)
    if re.fullmatch(r"[\w][\w.-]*/[\w][\w.-]*", str(name)) and not folder.exists():
        return _fetched(str(name))
    names = pretrained_names()
    near = difflib.get_close_matches(str(name), names, 1)
    raise WeightsError(
        f"{name}: no such folder, and no network of that name comes with twincaps"
        f"{f'; did you mean {near[0]}?' if near else ''}; expected one of {', '.join(names)}, "
        "a folder of save_pretrained, or owner/name on the Hub"
    )


def config(folder: Path) -> NetworkSpec:
    """The spec in a folder's config.json; raises WeightsError."""
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON ({gist(error)})") from error
    if not isinstance(values, dict) or values.get("model_type") != FORMAT:
        raise WeightsError(
            f"{path}: is no description of a network of twincaps; expected model_type {FORMAT!r}"
        )
    return from_dict(NetworkSpec, values.get("spec"))


def save_folder(
    folder: str | os.PathLike,
    spec: NetworkSpec,
    arrays: Arrays,
    trained_on: TrainedOn | None = None,
    *,
    force: bool = False,
) -> None:
    """Writes a network as a folder, whole or not at all.

    Args:
        folder: The folder to make.
        spec: The network.
        arrays: Its weights, by canonical names.
        trained_on: Saved with them, where it is known.
        force: Whether to replace those three files in a folder that has others or older ones.

    Raises:
        WeightsError: Where the folder is there and not empty, without `force`; or the weights do
            not fit the spec.
    """
    folder = Path(folder)
    occupied = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if occupied and not (force and folder.is_dir()):
        fix = "another folder" if not folder.is_dir() else "another folder, or force=True"
        raise WeightsError(f"{folder}: is there already; nothing was overwritten, use {fix}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    beside.mkdir()
    try:
        digest = save(beside / MODEL, spec, arrays, trained_on)
        described = {"model_type": FORMAT, "spec": to_dict(spec)}
        write_whole(beside / CONFIG, (json.dumps(described, indent=2) + "\n").encode())
        write_whole(beside / CARD, _card(folder.resolve().name, spec, digest, trained_on).encode())
        if occupied:
            for name in (MODEL, CONFIG, CARD):
                os.replace(beside / name, folder / name)
        else:
            os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _model(folder: Path) -> Path:
    """The weights file of a folder; raises WeightsError."""
    _expect([path.name for path in folder.iterdir()], folder)
    return folder / MODEL


def _expect(files: Iterable[str], where: Path | str) -> None:
    """Raises WeightsError, naming what is there instead, unless our two files are."""
    files = sorted(files)
    if {MODEL, CONFIG} <= {*files}:
        return
    foreign = [(name, FOREIGN[end]) for name in files if (end := Path(name).suffix) in FOREIGN]
    expected = f"expected {MODEL} and {CONFIG}, as save_pretrained writes them"
    if foreign:
        name, whose = foreign[0]
        raise WeightsError(
            f"{where}: holds {name}, a file of {whose}'s own; {expected}; `python -m parity "
            f"convert` makes a .safetensors file of many such"
        )
    there = f"holds {', '.join(files[:5])}" if files else "is empty"
    raise WeightsError(f"{where}: {there}; {expected}")


def _fetched(name: str) -> Path:
    """The weights file of "owner/name", fetched from the Hub into its cache with config.json."""
    try:
        import huggingface_hub as hub  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise WeightsError(
            f"{name}: no such folder, and to fetch it from the Hub huggingface_hub is not "
            "installed; install it with: pip install 'twincaps[hub]'"
        ) from None
    try:
        files = hub.list_repo_files(name)
        _expect(files, name)
        paths = [Path(hub.hf_hub_download(name, file)) for file in (CONFIG, MODEL)]
    except WeightsError:
        raise
    except Exception as error:  # the client, and what it connects with, have many
        raise WeightsError(
            f"{name}: no such folder, and it could not be fetched from the Hub ({gist(error)})"
        ) from error
    return paths[1]


def _card(name: str, spec: NetworkSpec, digest: str, trained_on: TrainedOn | None) -> str:
    """The text of the card: what the network is and how it is loaded, nothing that is not known."""
    count = sum(math.prod(row.shape) for row in table(spec).values() if row.trained)
    rows: dict[str, Any] = {
        "network": f"`{spec.network}`, routing {spec.routing.label}",
        "images": "x".join(map(str, spec.image)) + ", NHWC in [0, 1]",
        "classes": spec.classes,
        "parameters": f"{count:,}",
        "sha256": f"`{digest}`, as `python -m parity inspect {MODEL}` shows it",
    }
    if trained_on is not None and trained_on.dataset:
        rows["trained on"] = trained_on.dataset
        rows["names of classes"] = ", ".join(trained_on.names(spec.classes))
    lines = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"""---
library_name: {FORMAT}
tags: [capsule-network, {spec.network}]
---

# {name}

A capsule network of twincaps, for PyTorch and JAX alike:

```python
import torch_caps as caps  # or: import jax_caps as caps

net = caps.from_pretrained("{name}")  # this folder, or owner/name where it is shared
```

| | |
|---|---|
{lines}
"""
