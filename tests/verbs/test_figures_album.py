"""Which images figures show: of any network and data, whatever is right, wrong or missing."""

import dataclasses

import numpy as np
import pytest
from specs import PRIMES

from parity.data import from_arrays
from parity.data.sets.multi_mnist import Pairs
from parity.figures import glimpse, model, separations
from parity.figures.album import album
from parity.spec import NetworkSpec

pytestmark = pytest.mark.filterwarnings("ignore::parity.data.DataWarning")

NAMES = ["nought", "one", "a very long name"]


class Fake:
    """Answers with the poses it was given, by the first pixel of an image; decodes to constants."""

    def __init__(self, spec: NetworkSpec, poses: np.ndarray):
        self.spec, self.held = spec, poses

    def poses(self, images):
        return self.held[np.rint(images[:, 0, 0, 0] * 255).astype(int)]

    def couplings(self, images):
        shape = self.spec.routing.num_iters, len(images), self.spec.num_inputs, self.spec.classes
        return np.random.default_rng(1).random(shape, "float32")

    def reconstruct(self, poses, labels):
        assert len(poses)
        return (
            np.ones((len(poses), *self.spec.image), "float32") * (labels / 10)[:, None, None, None]
        )


def seen(spec: NetworkSpec, labels: np.ndarray, answers: np.ndarray, most: int | None = None):
    """What a Fake with these answers sees of as many images."""
    images = np.zeros((len(labels), *spec.image), "uint8")
    images[:, 0, 0, 0] = np.arange(len(labels))
    poses = np.zeros((len(labels), spec.classes, spec.pose), "float32")
    poses[np.arange(len(labels)), answers, 1] = 0.5
    data = from_arrays(images, labels, images, labels, classes=spec.classes)
    return model.look(Fake(spec, poses), data.test, 4, most)


KINDS = ["reconstructions", "perturbations", "confusion", "couplings"]
SMALL = dataclasses.replace(PRIMES, image=(13, 11, 1))


@pytest.mark.parametrize(
    ("labels", "answers"),
    [
        ([0, 1, 2, 0, 1, 2, 0], [0, 1, 2, 1, 2, 0, 0]),
        ([0, 1, 2, 2, 2], [0, 1, 2, 2, 2]),  # all right
        ([0, 1, 2, 2, 2], [1, 2, 0, 0, 0]),  # all wrong
        ([2, 2, 2], [2, 0, 2]),  # two classes missing
    ],
)
def test_all_figures_are_drawn_whatever_is_right_or_missing(labels, answers):
    at = seen(SMALL, np.array(labels), np.array(answers))
    assert np.array_equal(at.answers, answers)
    assert [name for name, _ in album(at, NAMES, "note")] == KINDS


def test_a_network_without_a_decoder_is_drawn_without_reconstructions():
    bare = dataclasses.replace(SMALL, decoder=None)
    at = seen(bare, np.array([0, 1, 2]), np.array([0, 2, 2]))
    assert [name for name, _ in album(at, NAMES, "note")] == ["confusion", "couplings"]
    assert set(glimpse.glimpse(at.model, at.split, 4)().pictures) == {"couplings"}


def test_a_look_is_over_all_images_once_or_the_first_ones():
    labels = np.arange(11) % 3
    for most, count in ((None, 11), (5, 8), (8, 8), (100, 11)):
        at = seen(SMALL, labels, labels, most)
        assert np.array_equal(at.labels, labels[:count])
        assert np.array_equal(at.answers, labels[:count])


def test_answers_of_pairs_stand_at_the_digit_they_name(monkeypatch):
    spec = dataclasses.replace(SMALL, image=(36, 36, 1), classes=10)
    digits = np.zeros((4, 28, 28, 1), "uint8")
    pairs = Pairs(digits, np.array([3, 5, 8, 1]), "test")
    made = pairs.batch(np.arange(4)).made_of
    assert made is not None
    (a, b), (c, d), (e, f), (g, h) = made[0]
    other = next(n for n in range(10) if n not in (e, f, g, h))
    answers = [(b, a), (c, d), (f, other), (other, g)]  # longest first
    poses = np.zeros((4, 10, spec.pose), "float32")
    for n, (first, second) in enumerate(answers):
        poses[n, first, 0], poses[n, second, 0] = 0.9, 0.8
    fake = Fake(spec, poses)
    batch = pairs.batch(np.arange(4))
    at = model.Seen(fake, pairs, batch.labels, poses, np.linalg.norm(poses, axis=-1))
    kept = {}
    draw = separations.draw
    monkeypatch.setattr(
        separations, "draw", lambda *given: kept.update(given=given) or draw(*given)
    )
    names = [str(n) for n in range(10)]
    assert [name for name, _ in album(at, names, "note")] == ["separations", "couplings"]
    _, _, drawn, shown_digits, told, _ = kept["given"]
    assert np.array_equal(shown_digits, made[0])
    assert told.tolist() == [[a, b], [c, d], [other, f], [g, other]]
    assert np.allclose(drawn[:, :, 0, 0, 0], told / 10)
