"""A quick look at a network between two epochs, for TensorBoard.

Small pictures and the entropies of its routing coefficients, in NumPy alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from parity.data import Split, batches
from parity.figures import _couplings, perturbations, style
from parity.figures.model import Model

SOME, ZOOM = 10, 3  # images, and screen pixels for each of theirs


@dataclass(frozen=True, eq=False)
class Glimpse:
    """What a look at a network found.

    Attributes:
        entropies: Of the last iteration's routing coefficients, in nats: one for each primary
            capsule of each image; None of a routing whose coefficients are no shares.
        pictures: [H, W, 3] by name.
    """

    entropies: np.ndarray | None
    pictures: dict[str, np.ndarray]


def glimpse(model: Model, split: Split, batch_size: int) -> Callable[[], Glimpse]:
    """A function that looks at the first images of a split through the network."""
    batch = next(batches.evaluation(split, batch_size)).images
    images = batch[: min(SOME, len(split))]

    def take() -> Glimpse:
        coefficients = model.couplings(images)
        pictures = {"couplings": _maps(_couplings.strongest(coefficients[:, 0], model.spec))}
        if model.spec.decoder is not None:  # a whole batch, as JAX has compiled that already
            pictures |= _decoded(model, images, model.poses(batch)[: len(images)])
        zoomed = {
            name: picture.repeat(ZOOM, 0).repeat(ZOOM, 1) for name, picture in pictures.items()
        }
        shares = model.spec.routing.shares
        return Glimpse(entropies(coefficients[-1]).ravel() if shares else None, zoomed)

    return take


def entropies(couplings_BIJ: np.ndarray) -> np.ndarray:
    """-sum c log c over the classes and the leak, of each primary capsule: [B, I]."""
    shares = np.asarray(couplings_BIJ, np.float64)
    leak = np.clip(1 - shares.sum(-1, keepdims=True), 0, None)
    shares = np.concatenate([shares, leak], -1)
    return -(shares * np.log(np.where(shares > 0, shares, 1))).sum(-1)


def _maps(maps: np.ndarray) -> np.ndarray:
    """Couplings of one image, a row an iteration, from white (least) to black."""
    low, high = maps.min(), maps.max()
    grey = 1 - (maps - low) / (high - low if high > low else 1)
    tiles = grey.repeat(ZOOM, -2).repeat(ZOOM, -1)[..., None]
    return style.mosaic(style.rgb(tiles, ink=False))


def _decoded(model: Model, images: np.ndarray, poses: np.ndarray) -> dict[str, np.ndarray]:
    """Images over their reconstructions, and the first one's perturbations."""
    ink = style.is_ink(images)
    answers = np.linalg.norm(poses, axis=-1).argmax(1)
    tweaked, labels = perturbations.poses(poses[:1], answers[:1])
    asked = np.concatenate([poses, tweaked]), np.concatenate([answers, labels])
    drawn = style.rgb(model.reconstruct(*asked), ink)
    rows = np.stack([style.rgb(images, ink), drawn[: len(poses)]])
    sheet = drawn[len(poses) :].reshape(poses.shape[-1], -1, *drawn.shape[1:])
    return {"reconstructions": style.mosaic(rows), "perturbations": style.mosaic(sheet)}
