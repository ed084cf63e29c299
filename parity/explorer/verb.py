"""The verb `explore`: a page that shows what a network sees, as a file or served."""

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from parity.explorer import page, server
from parity.figures.model import Model
from parity.predict.verb import asked
from parity.saved import Known, find
from parity.spec import RunOptions, TrainingSpec, TwincapsError
from parity.weights import ENDS, write_whole


def _shown(metavar: str, unset: str) -> Any:
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {unset})")


def explore(
    network: Annotated[
        tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME|RUN|FILE")
    ] = "small-mnist",
    out: Annotated[str | None, _shown("FILE", "the network's name with .html, here")] = None,
    serve: bool = False,
    port: int = 8000,
    force: bool = False,
    json: bool = False,
) -> None:
    """Make a page to look into a network: draw a digit, move its pose, see the routing.

    It is one HTML file, which computes the network by itself, in any browser and without a server.

    Args:
        network: A network that comes with twincaps, a run, one of its checkpoints, or .safetensors.
        out: The file to write.
        serve: Serve the page to this machine instead, with PyTorch and JAX beside it, those
            installed; Ctrl-C ends it.
        port: Where to serve it; 0 takes any that is free.
        force: Replace OUT.
        json: Print one JSON object instead.
    """
    known = find(network)
    if serve:
        if out is not None:
            raise TwincapsError(f"--out {out} and --serve: one of them, the page or its server")
        _serve(known, port, json)
        return
    name = Path(known.name).resolve().name.removesuffix(ENDS)
    path = Path(out or f"{name}.html")
    if path.is_dir() or (path.exists() and not force):
        fix = "it is a folder" if path.is_dir() else "--force replaces it"
        raise TwincapsError(f"{path}: exists; {fix}, or name another with --out")
    content = page.build(known)
    try:
        write_whole(path, content)
    except OSError as error:
        raise TwincapsError(f"{path}: could not be written ({error})") from error
    if json:
        print(jsonlib.dumps({"page": str(path), "bytes": len(content)}))
    else:
        print(f"wrote {path}, {len(content) / 1e6:.1f} MB; open it in a browser")


def _serve(known: Known, port: int, json: bool) -> None:
    wings = asked(None)
    content = page.build(known, wings)  # refuses before a framework is imported
    models: dict[str, Model] = {}

    def answer(image: np.ndarray) -> dict[str, np.ndarray]:
        return {wing: model.poses(image[None])[0] for wing, model in models.items()}

    with server.make_server(content, known.spec, answer, port) as serving:
        for wing in wings:
            model = known.trainer(TrainingSpec(), RunOptions(backend=wing))
            assert isinstance(model, Model)
            models[wing] = model
        address = f"http://{server.HOST}:{serving.server_port}/"
        if json:
            print(jsonlib.dumps({"address": address, "wings": wings}), flush=True)
        else:
            print(f"{address} with {' and '.join(wings)}; Ctrl-C ends it", flush=True)
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            print("ended", file=sys.stderr)
