"""The verb `predict`: what a network says of pictures, with one wing or both."""

import importlib.util
import json as jsonlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from parity import reference
from parity.figures.model import Model
from parity.predict.fit import prepare
from parity.saved import Known, find
from parity.spec import BACKENDS, Backend, RunOptions, TrainingSpec, TwincapsError, printable
from parity.traces.measure import difference
from parity.wing.load import EXTRAS
from parity.wing.trainer import scores

AT_ONCE = 128


def _shown(metavar: str, unset: str) -> Any:
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {unset})")


@dataclass(frozen=True, eq=False)
class Prediction:
    """What each wing makes of one image.

    Attributes:
        image: [H, W, C].
        poses: [J, D] by wing; activations [J] where the class capsules have no poses.
        reconstructions: [P, H, W, C], by the first wing, from the capsules of its answers; None
            where the network has no decoder.
        things: How many classes the image shows, P.
        activations: [J] by wing; None of a network whose capsules are as active as they are long.
    """

    image: np.ndarray
    poses: dict[str, np.ndarray]
    reconstructions: np.ndarray | None
    things: int = 1
    activations: dict[str, np.ndarray] | None = None

    @property
    def lengths(self) -> dict[str, np.ndarray]:
        """The lengths [J] of the poses, or the activations, by wing."""
        if self.activations is not None:
            return self.activations
        return {wing: reference.lengths(poses) for wing, poses in self.poses.items()}

    @property
    def answers(self) -> dict[str, tuple[int, ...]]:
        """The classes of the `things` longest capsules, in order, by wing."""
        return {
            wing: tuple(np.sort(reference.longest(lengths, self.things)).tolist())
            for wing, lengths in self.lengths.items()
        }

    @property
    def difference(self) -> float | None:
        """Of the two wings' capsules, by the ladder's measure; None where one was asked."""
        return difference(*self.poses.values()) if len(self.poses) == 2 else None


def predict(
    images: Annotated[list[str], tyro.conf.arg(metavar="IMAGE...", help_behavior_hint="")],
    weights: Annotated[str, tyro.conf.arg(metavar="NAME|RUN|FILE")] = "efficient-mnist",
    backend: Literal[Backend, "both"] | None = None,
    fit: Annotated[
        str | None, _shown("{digit,digits,garment,whole}", "what the network is for")
    ] = None,
    out: Annotated[str | None, _shown("DIR", "write nothing")] = None,
    json: bool = False,
) -> None:
    """Say what pictures show: the class or classes, and each capsule's length or activation.

    Args:
        images: Pictures, PNG for example, of any size: drawn dark on light or light on dark.
        weights: A network that comes with twincaps, a run, one of its checkpoints, or .safetensors.
        backend: Which framework answers.
        fit: How a picture becomes an image: as MNIST's, MultiMNIST's, Fashion-MNIST's, or as it is.
        out: A folder for what the network saw, and its reconstructions, as PNG.
        json: Print one JSON object instead.
    """
    known = find(weights)
    backends = asked(backend)
    if not images:
        raise TwincapsError("no picture; expected the names of one or more, PNG for example")
    about = known.trained_on
    unknown = fit is None and not about.dataset
    fit = fit or about.fit
    frame = about.frame if fit == about.fit else None
    images_NHWC = np.stack([prepare(path, known.spec.image, fit, frame) for path in images])
    if unknown:
        note = f"{weights} does not say what it was trained on, so pictures are shown to it whole"
        print(f"{note}; --fit digit is for handwritten digits", file=sys.stderr)
    predictions = see(known, images_NHWC, backends)
    files: list[dict[str, str]] = [{} for _ in images]
    if out is not None:
        files = write(Path(out), images, predictions)
    if json:
        pictures = [_plain(*row) for row in zip(images, predictions, files, strict=True)]
        names = list(known.names)
        print(
            jsonlib.dumps({"weights": weights, "fit": fit, "classes": names, "pictures": pictures})
        )
        return
    for row in zip(images, predictions, files, strict=True):
        _show(*row, known.names)


def asked(backend: Literal[Backend, "both"] | None) -> list[Backend]:
    """The wings asked for, in their order; unless one is named, the installed."""
    if backend == "both":
        return list(BACKENDS)
    if backend is not None:
        return [RunOptions(backend=backend).backend]  # refuses what is no wing
    wings: list[Backend] = [
        wing for wing in BACKENDS if all(map(importlib.util.find_spec, EXTRAS[wing]))
    ]
    if not wings:
        raise TwincapsError(
            "neither framework is installed; install one with: pip install 'twincaps[torch]', or "
            "'twincaps[jax]'"
        )
    return wings


def see(known: Known, images: np.ndarray, backends: list[Backend]) -> list[Prediction]:
    """What each of these wings makes of images [N, H, W, C], in float32."""
    poses, activations, reconstructions = {}, {}, None
    active = known.spec.ranks == "activations"
    for wing in backends:
        model = known.trainer(TrainingSpec(), RunOptions(backend=wing))
        assert isinstance(model, Model)
        parts = [images[n : n + AT_ONCE] for n in range(0, len(images), AT_ONCE)]
        poses[wing] = np.concatenate([model.poses(part) for part in parts])
        if active:
            activations[wing] = np.concatenate([scores(model, part) for part in parts])
        if reconstructions is None and known.spec.decoder is not None:
            lengths = activations[wing] if active else reference.lengths(poses[wing])
            answers = np.sort(reference.longest(lengths, known.trained_on.things))
            reconstructions = np.stack(
                [model.reconstruct(poses[wing], labels) for labels in answers.T], 1
            )
    return [
        Prediction(
            image,
            {wing: poses_NJD[n] for wing, poses_NJD in poses.items()},
            None if reconstructions is None else reconstructions[n],
            known.trained_on.things,
            {wing: each[n] for wing, each in activations.items()} if active else None,
        )
        for n, image in enumerate(images)
    ]


def write(folder: Path, images: list[str], predictions: list[Prediction]) -> list[dict[str, str]]:
    """Writes NAME-input.png and NAME-reconstruction.png; returns their paths.

    Of an image of several things each reconstruction's name ends in its class. Nothing that was
    asked about is replaced, nor one picture's files by another's of its name.
    """
    from PIL import Image

    used, files = {Path(path).resolve() for path in images}, []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, prediction in zip(images, predictions, strict=True):
            pictures = _pictures(prediction)
            paths = _free(folder, Path(path).stem, pictures, used)
            for what, array in pictures.items():
                # A decoder that ends in relu may make more than white.
                bytes_HWC = np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)
                grey = bytes_HWC.shape[-1] == 1
                Image.fromarray(bytes_HWC[..., 0] if grey else bytes_HWC).save(paths[what])
            files.append({what: str(path) for what, path in paths.items()})
    except OSError as error:
        raise TwincapsError(f"{folder}: could not be written to ({error})") from error
    return files


def _pictures(prediction: Prediction) -> dict[str, np.ndarray]:
    drawn = prediction.reconstructions
    if drawn is None:
        return {"input": prediction.image}
    if prediction.things == 1:
        return {"input": prediction.image, "reconstruction": drawn[0]}
    answers = next(iter(prediction.answers.values()))
    named = {f"reconstruction-{label}": image for label, image in zip(answers, drawn, strict=True)}
    return {"input": prediction.image, **named}


def _free(folder: Path, stem: str, whats: Iterable[str], used: set[Path]) -> dict[str, Path]:
    number = 1
    while True:
        name = stem if number == 1 else f"{stem}-{number}"
        paths = {what: folder / f"{name}-{what}.png" for what in whats}
        places = {path.resolve() for path in paths.values()}
        if not places & used:
            used |= places
            return paths
        number += 1


def _plain(path: str, prediction: Prediction, files: dict[str, str]) -> dict[str, Any]:
    answers = {
        wing: {
            "class": int(lengths.argmax()),
            "classes": list(prediction.answers[wing]),
            "lengths": [float(x) for x in lengths],
        }
        for wing, lengths in prediction.lengths.items()
    }
    return {"picture": path, "answers": answers, "difference": prediction.difference, **files}


def _show(path: str, prediction: Prediction, files: dict[str, str], names: tuple[str, ...]) -> None:
    console, names = Console(), tuple(map(printable, names))
    answers = {
        wing: " and ".join(names[label] for label in labels)
        for wing, labels in prediction.answers.items()
    }
    says = " or ".join(dict.fromkeys(answers.values()))
    console.print(Text.assemble(f"{printable(path)}: ", (says, "bold")))
    ranked = "length" if prediction.activations is None else "activation"
    table = Table("class", *(f"{ranked}, {wing}" for wing in answers))
    for label, name in enumerate(names):
        style = "bold" if any(label in labels for labels in prediction.answers.values()) else "none"
        cells = (f"{lengths[label]:.4f}" for lengths in prediction.lengths.values())
        table.add_row(Text(name), *cells, style=style)
    console.print(table)
    if prediction.difference is not None:
        sayings = ", ".join(f"{wing} says {answer}" for wing, answer in answers.items())
        console.print(Text(f"{sayings}; their capsules differ by {prediction.difference:.1e}"))
    if files:
        console.print(Text(f"wrote {', '.join(files.values())}"), soft_wrap=True)
