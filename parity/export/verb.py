"""`python -m parity export`: the command line of this package."""

import json as jsonlib
from pathlib import Path
from typing import Annotated

import tyro

from parity.export import writing
from parity.spec import to_dict


def export(
    network: Annotated[str, tyro.conf.arg(metavar="NAME|RUN|FILE")],
    out: Annotated[str, tyro.conf.arg(metavar="OUT")],
    ema: bool = False,
    force: bool = False,
    json: bool = False,
) -> None:
    """Write a trained network's forward pass as a file that runs without twincaps.

    Args:
        network: A network that comes with twincaps, a run, one of its checkpoints, or .safetensors.
        out: The file: .onnx for ONNX Runtime and others, .pt2 for torch.export, .jax for
            jax.export.
        ema: The averaged weights of a run trained with --ema.
        force: Replace OUT.
        json: Print one JSON object instead.
    """
    known = writing.export(network, out, averaged=ema, force=force)
    count = sum(array.size for array in known.arrays.values())
    size, spec = Path(out).stat().st_size, known.spec
    shapes = {"poses": [spec.classes, spec.pose]} if spec.pose else {}
    shapes |= {"scores": [spec.classes]}
    if spec.decoder is not None:
        things = known.trained_on.things
        shapes["reconstruction"] = [*([things] if things > 1 else []), *spec.image]
    if json:
        told = {"wrote": out, "bytes": size, "parameters": count, "source": known.source}
        told |= {"input": list(spec.image), "outputs": shapes, "classes": list(known.names)}
        print(jsonlib.dumps({**told, "spec": to_dict(spec)}))
        return
    print(f"wrote {out}: {known.source}, {count:,} parameters, {size:,} bytes")
    made = ", ".join(f"{name} {_shape(shape)}" for name, shape in shapes.items())
    print(f"images {_shape(spec.image)} in 0 to 1 -> {made}")


def _shape(sizes: list[int] | tuple[int, ...]) -> str:
    return f"[batch, {', '.join(map(str, sizes))}]"
