"""The figures that can be drawn of a network and a split of test images."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from parity import reference
from parity.figures import (
    _couplings,
    confusion,
    perturbations,
    reconstructions,
    separations,
    style,
)
from parity.figures.model import Seen

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOME = 10  # images or classes in a row


def album(seen: Seen, names: Sequence[str], note: str) -> Iterator[tuple[str, "Figure"]]:
    """(name, figure) of each that suits the network and data, drawn one at a time.

    Args:
        seen: Test images, and what the network makes of them.
        names: Of the classes.
        note: The origin of the figures, in a line below each.
    """
    spec, drawable = seen.model.spec, seen.model.spec.decoder is not None
    if seen.labels.ndim == 2:
        answers, right = _pairs(seen)
        if drawable:
            yield "separations", _separations(seen, answers, right, note)
    else:
        right = seen.answers == seen.labels
        if drawable:
            yield "reconstructions", _reconstructions(seen, right, names, note)
            yield "perturbations", _perturbations(seen, right, names, note)
        yield "confusion", _confusion(seen, names, note)
    place = np.argmax(right)  # the first that is right, or else the first
    image = seen.batch(np.array([place])).images
    maps = _couplings.strongest(seen.model.couplings(image)[:, 0], spec)
    labels = np.flatnonzero(seen.labels[place]) if seen.labels.ndim == 2 else [seen.labels[place]]
    yield (
        "couplings",
        _couplings.draw(image[0], maps, seen.lengths[place], list(labels), spec, names, note),
    )


def _reconstructions(seen: Seen, right: np.ndarray, names: Sequence[str], note: str) -> "Figure":
    def shown(places: np.ndarray) -> reconstructions.Shown:
        labels, answers = seen.labels[places], seen.answers[places]
        drawn = (seen.reconstruct(places, classes) for classes in (labels, answers))
        return reconstructions.Shown(seen.batch(places).images, labels, answers, *drawn)

    wrong = shown(np.flatnonzero(~right)[:SOME])
    return reconstructions.draw(shown(_one_a_class(seen, right, strict=True)), wrong, names, note)


def _perturbations(seen: Seen, right: np.ndarray, names: Sequence[str], note: str) -> "Figure":
    places = _one_a_class(seen, right, strict=False)
    labels = seen.labels[places]
    tweaked, tweak_labels = perturbations.poses(seen.poses[places], labels)
    drawn = seen.model.reconstruct(tweaked, tweak_labels)
    drawn = drawn.reshape(len(labels), seen.poses.shape[-1], -1, *seen.model.spec.image)
    images = seen.batch(places).images
    return perturbations.draw(drawn, images, [names[int(n)] for n in labels], note)


def _confusion(seen: Seen, names: Sequence[str], note: str) -> "Figure":
    counts = confusion.matrix(seen.labels, seen.answers, len(names))
    places = confusion.worst(seen.lengths, seen.labels, 16)
    captions = []
    for place in places:
        label, answer = int(seen.labels[place]), int(seen.answers[place])
        lengths = seen.lengths[place]
        pair = style.change(names[label], names[answer])
        captions.append(f"{pair}\n{lengths[label]:.2f} / {lengths[answer]:.2f}")
    images = seen.batch(places).images
    return confusion.draw(counts, len(seen.split), images, captions, names, note)


def _pairs(seen: Seen) -> tuple[np.ndarray, np.ndarray]:
    """The two longest capsules of each image, [N, 2], and whether both are right."""
    answers = reference.longest(seen.lengths, 2)
    right = np.take_along_axis(seen.labels, answers, 1).sum(1) == 2
    return answers, right


def _separations(seen: Seen, answers: np.ndarray, right: np.ndarray, note: str) -> "Figure":
    places = np.concatenate([np.flatnonzero(outcome)[:SOME] for outcome in (right, ~right)])
    batch = seen.batch(places)
    assert batch.made_of is not None
    digits, parts = batch.made_of
    # An answer that is one of the two digits stands in that one's place.
    pairs = answers[places]
    swap = (pairs[:, 0] == digits[:, 1]) | (pairs[:, 1] == digits[:, 0])
    pairs = np.where(swap[:, None], pairs[:, ::-1], pairs)
    reconstructed = np.stack([seen.reconstruct(places, pairs[:, n]) for n in (0, 1)], 1)
    return separations.draw(batch.images, parts, reconstructed, digits, pairs, note)


def _one_a_class(seen: Seen, right: np.ndarray, *, strict: bool) -> np.ndarray:
    """The first right image of each class; unless `strict`, else the first image."""
    places = []
    for label in range(seen.model.spec.classes):
        of_class = np.flatnonzero(seen.labels == label)
        right_ones = of_class[right[of_class]]
        if len(right_ones) or (len(of_class) and not strict):
            places.append((right_ones if len(right_ones) else of_class)[0])
    return np.array(places[:SOME], int)
