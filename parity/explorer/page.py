"""The explorer's page: one HTML file that holds a network, its engine and test images.

Styles and scripts stand in the file, weights and images as base64, and the browser is told to ask
nobody for anything (Content-Security-Policy).
"""

import base64
import html
import json
import math
import re
import tempfile
import zlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from parity import data, weights
from parity.data import Dataset
from parity.predict.fit import SIDES
from parity.saved import Known
from parity.spec import NetworkSpec, TwincapsError, printable

LARGEST = 6_000_000  # bytes: a page beyond this is slow to open on a phone
SCRIPTS = ("engine.js", "fit.js", "field.js", "maps.js", "pictures.js", "wings.js", "page.js")
# What engine.js computes, by the names of the spec.
NETWORKS, ROUTINGS = ("sabour2017", "efficient"), ("dynamic", "self_attention")
TESTS = "mnist-mini"  # whose test images are shown: it comes with the package


class PageError(TwincapsError):
    """A network of which there can be no page."""


def fault(spec: NetworkSpec) -> str | None:
    """The reason why the page cannot show a network; None where it can."""
    if spec.network not in NETWORKS:
        return f"is a {spec.network} network; the page computes {' and '.join(NETWORKS)}"
    if spec.routing.name not in ROUTINGS:
        return f"routes by {spec.routing.name}; the page computes {' and '.join(ROUTINGS)}"
    return None


def build(known: Known, wings: Sequence[str] = ()) -> bytes:
    """The page of a network, UTF-8.

    Weights are stored as they were saved; where the file would be larger than `LARGEST`, as
    bfloat16, and the page says so.

    Args:
        known: The network.
        wings: Those that answer beside the page, where it is served; then it may be of any size.

    Raises:
        PageError: Where the page cannot compute or show the network, or would be too large.
    """
    if reason := fault(known.spec) or _unseen(known):
        raise PageError(f"{known.name}: {reason}")
    tests = _tests(known)
    images = b"" if tests is None else zlib.compress(tests.test.images.tobytes(), 9)
    for dtype in (None, "bfloat16"):
        page = _page(known, wings, tests, images, dtype)
        if wings or len(page) <= LARGEST:
            return page
    raise PageError(
        f"{known.name}: its page would have {len(page) / 1e6:.1f} MB, even in bfloat16, and a file "
        f"may have {LARGEST / 1e6:.0f}; look at it with --serve, which has no limit"
    )


def _unseen(known: Known) -> str | None:
    """The reason why nothing can be drawn for a network; None where it can, as `prepare` has it."""
    height, width, channels = known.spec.image
    fit, side = known.trained_on.fit, SIDES.get(known.trained_on.fit, 1)
    if channels not in ((1, 3) if fit == "whole" else (1,)):
        return f"takes images of {channels} channels; the page draws 1 (grey) and 3 (colour)"
    if min(height, width) < side:
        return f"takes images of {height}x{width}, and {fit} needs {side}x{side}"
    return None


def _tests(known: Known) -> Dataset | None:
    """The test images that come with the package, for a network of digits of their size."""
    about, spec = known.trained_on, known.spec
    declared = data.entry(TESTS)
    fits = (spec.image, spec.classes, about.things) == (declared.shape, declared.classes, 1)
    return data.load(TESTS) if fits and (about.fit == "digit" or not about.dataset) else None


def _page(
    known: Known, wings: Sequence[str], tests: Dataset | None, images: bytes, dtype: str | None
) -> bytes:
    first, step = known.spec.cells
    arrays = {name: _stored(array, dtype) for name, array in known.arrays.items()}
    facts = {
        "about": _about(known),
        "notes": _notes(known, arrays, tests, dtype),
        "classes": [printable(name) for name in known.names],
        "fit": known.trained_on.fit,
        "frame": known.trained_on.frame,
        "things": known.trained_on.things,
        "wings": list(wings),
        "grid": known.spec.grid,
        "first": first,
        "step": step,
    }
    if tests is not None:
        facts["labels"] = tests.test.labels.tolist()
    parts = {
        "title": html.escape(printable(Path(known.name).name)),
        "reach": "'self'" if wings else "'none'",
        "style": _text("style.css"),
        # In JSON no "<" is needed, and none may end the element.
        "facts": json.dumps(facts).replace("<", "\\u003c"),
        "weights": _base64(_file(known, arrays)),
        "images": _base64(images),
        "scripts": "\n".join(map(_text, SCRIPTS)),
    }
    # In one pass: what is put in is not looked at again.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _text("page.html")).encode()


def _stored(array: np.ndarray, dtype: str | None) -> np.ndarray:
    """As it was saved, or rounded; float16, which the engine cannot read, in float32."""
    return array.astype(dtype or ("float32" if array.dtype == np.float16 else array.dtype))


def _file(known: Known, arrays: weights.Arrays) -> bytes:
    """The bytes of a weights file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.safetensors"
        weights.save(path, known.spec, arrays, known.trained_on)
        return path.read_bytes()


def _about(known: Known) -> str:
    spec = known.spec
    count = sum(math.prod(row.shape) for row in weights.table(spec).values() if row.trained)
    options = [f"{name} {value}" for name, value in spec.routing.options.items() if value]
    trained = known.trained_on.dataset and f" trained on {printable(known.trained_on.dataset)}"
    return (
        f"A capsule network{trained}: {count:,} parameters, {spec.num_inputs:,} primary capsules "
        f"of {spec.primary.size}, {spec.classes} class capsules of {spec.pose}; "
        f"routing: {', '.join([spec.routing.name, *options])}. This page computes all of it."
    )


def _notes(
    known: Known, arrays: weights.Arrays, tests: Dataset | None, dtype: str | None
) -> list[str]:
    kinds = " and ".join(sorted({str(array.dtype) for array in arrays.values()}))
    rounded = f", rounded from the file's to keep the page below {LARGEST / 1e6:.0f} MB"
    notes = [f"Weights in {kinds}{rounded if dtype else ''}; computed in float64."]
    if not known.trained_on.dataset:
        notes.append("The file does not say what it was trained on: drawings are seen whole.")
    if tests is not None:
        notes.append(f"Test images of {TESTS}: MNIST, {data.entry(TESTS).licence}.")
    return notes


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _text(name: str) -> str:
    return (files("parity.explorer") / name).read_text()
