"""The mistakes of public capsule code, each one switch away from the oracle.

Each function here is the oracle's (`parity.reference`) with switches that make it wrong, and
each row of `MISTAKES` is a setting of the switches. `judging.py` runs somebody else's
function on the `CASES` below and says which rows give the same numbers. Routing here is dynamic
routing, the one of which public code is full; `kinds.py` has the cases of every other.

Axes: B batch, I input capsules, J output capsules, D size of a pose.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity import reference

Array = np.ndarray
Settings = Mapping[str, Any]


def squash(x: Array, *, axis: int = -1, root=0.0, beside=0.0, throughout=0.0) -> tuple[Array, ...]:
    """Eq. 1 over a wrong `axis`, or with an epsilon in one of the three usual places."""
    if not (root or beside or throughout):
        return (reference.squash(x, axis),)
    square = (x * x).sum(axis, keepdims=True) + throughout
    return (x * square / (1 + square) / (np.sqrt(square + root) + beside),)


def routing(
    votes_BIJD: Array,
    num_iters: int,
    *,
    softmax_over: str = "outputs",
    agree: str = "votes",
    average: bool = False,
    replace: bool = False,
    more: int = 0,
    always: int | None = None,
    detach: bool = False,
    **squashed: Any,
) -> tuple[Array, ...]:
    """Procedure 1 with wrong coefficients, agreement or number of iterations."""
    votes_BIJD = reference.double(votes_BIJD)
    logits = np.zeros(votes_BIJD.shape[:3])
    poses = coupling = np.zeros(0)
    last = max((always or num_iters) + more, 1) - 1
    for t in range(last + 1):
        if softmax_over == "outputs":
            coupling = reference.softmax(logits)
        else:
            coupling = reference.softmax(logits.swapaxes(1, 2)).swapaxes(1, 2)
        if detach and t == last:
            coupling = np.real(coupling)
        weighted = coupling[..., None] * votes_BIJD
        total = weighted.sum(1)
        (poses,) = squash(total, **squashed)
        against = {"votes": votes_BIJD, "weighted": weighted, "sum": total[:, None]}[agree]
        step = (against * poses[:, None]).sum(-1)
        step = np.broadcast_to(step.mean(0) if average else step, logits.shape)
        logits = step if replace else logits + step
    return poses, coupling


def margin_loss(
    lengths_BJ: Array,
    labels_B: Array,
    *,
    softmax: bool = False,
    power: int = 2,
    down_weight: float = 0.5,
    classes: str = "sum",
    batch: str = "mean",
) -> tuple[Array, ...]:
    """Eq. 4 of other lengths, to another power, weight or kind of mean."""
    lengths_BJ = reference.double(lengths_BJ)
    lengths_BJ = reference.softmax(lengths_BJ) if softmax else lengths_BJ
    present = reference.one_hot(labels_B, lengths_BJ.shape[1])
    short, long = reference.relu(0.9 - lengths_BJ), reference.relu(lengths_BJ - 0.1)
    terms = present * short**power + down_weight * (1 - present) * long**power
    losses_B = terms.sum(1) if classes == "sum" else terms.mean(1)
    return (losses_B.mean() if batch == "mean" else losses_B.sum(),)


PLACES = {
    "root": "sqrt(|s|^2 + {0:g}) in the denominator",
    "beside": "|s| + {0:g} in the denominator",
    "throughout": "|s|^2 + {0:g} for every |s|^2",
}
SIZES = (1e-3, 1e-4, 1e-5, 1e-6, 2.0**-23, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12)
EPSILONS = {
    f"epsilon in the norm: {text.format(size)}": {place: size}
    for place, text in PLACES.items()
    for size in SIZES
}
# Of code that does not look at the number it is given, or does not take one: three are expected.
ALWAYS = {f"always {n} routing iteration{'s' * (n > 1)}": {"always": n} for n in (1, 2, 3, 4, 5)}
MISTAKES: dict[str, dict[str, Settings]] = {
    "squash": {
        "squash over the positions or classes (axis 1) instead of each pose": {"axis": 1},
        **EPSILONS,
    },
    "routing": {
        "last iteration's couplings detached": {"detach": True},
        "softmax over input capsules": {"softmax_over": "inputs"},
        "squash over the classes instead of each pose": {"axis": 1},
        "logits averaged over the batch": {"average": True},
        "logits replaced instead of accumulated": {"replace": True},
        "agreement uses the weighted sum instead of the votes": {"agree": "sum"},
        "agreement uses the weighted votes instead of the votes": {"agree": "weighted"},
        **ALWAYS,
        "one routing iteration too few": {"more": -1},
        "one routing iteration too many": {"more": 1},
        **EPSILONS,
    },
    "margin_loss": {
        "margin loss not squared": {"power": 1},
        "softmax of the lengths before the margin loss": {"softmax": True},
        "mean over the classes instead of the sum": {"classes": "mean"},
        "sum over the batch instead of the mean": {"batch": "sum"},
        "absent classes not weighed down by 0.5": {"down_weight": 1.0},
    },
}
VARIANTS: dict[str, Callable[..., tuple[Array, ...]]] = {
    "squash": squash,
    "routing": routing,
    "margin_loss": margin_loss,
}
OUTPUTS = {"squash": ("values",), "routing": ("poses", "couplings"), "margin_loss": ("loss",)}


@dataclass(frozen=True, eq=False)
class Case:
    """One call: the array to differentiate by, and the other arguments."""

    kind: str
    x: Array
    more: tuple[Any, ...] = ()

    @functools.cached_property
    def weights(self) -> Array:
        """What the first output is multiplied by before its sum is differentiated."""
        return normal(1, *self.values()[0].shape)

    def answer(self, x: Array, **settings: Any) -> tuple[Array, ...]:
        """What the oracle gives for x, or with settings one of its wrong variants."""
        return VARIANTS[self.kind](x, *self.more, **settings)

    def values(self, **settings: Any) -> tuple[Array, ...]:
        """The answer for this case's own x."""
        return self.answer(self.x.astype(np.float64), **settings)

    def gradient(self, **settings: Any) -> Array:
        """Of the weighted sum of the first output by x."""
        return reference.gradient(
            lambda x: (self.answer(x, **settings)[0] * self.weights).sum(), self.x
        )


def normal(seed: int, *shape: int) -> Array:
    """Normal numbers in float32, the same for the same seed and shape."""
    generator = np.random.Generator(np.random.Philox(seed))
    return generator.standard_normal(shape).astype(np.float32)


def zeroed(x: Array, *places: Any) -> Array:
    """A copy with these places set to 0."""
    x = x.copy()
    for place in places:
        x[place] = 0
    return x


def _lengths(batch: int, classes: int) -> Array:
    return np.random.Generator(np.random.Philox(batch)).random((batch, classes), np.float32)


# The short cases show an epsilon, the zero ones a NaN.
POSES, VOTES = normal(0, 3, 5, 7), normal(2, 2, 5, 3, 7)
_INSIDE = np.array([[0.95, 0.05, 0.02], [0.01, 0.03, 0.97]], np.float32)
ZERO, SHORT = "a zero capsule", "short poses"
CASES: dict[str, dict[str, Case]] = {
    "squash": {
        "random poses": Case("squash", POSES),
        "long poses": Case("squash", 1000 * POSES),
        SHORT: Case("squash", POSES * np.float32(1e-8)),
        ZERO: Case("squash", zeroed(POSES, (1, 2))),
    },
    "routing": {
        "three iterations": Case("routing", VOTES, (3,)),
        "two iterations": Case("routing", VOTES, (2,)),
        SHORT: Case("routing", VOTES * np.float32(1e-8), (3,)),
        ZERO: Case("routing", zeroed(VOTES, 0, (1, slice(None), 1)), (3,)),
    },
    "margin_loss": {
        "five samples of three": Case("margin_loss", _lengths(5, 3), (np.array([2, 0, 1, 1, 0]),)),
        "two samples of seven": Case("margin_loss", _lengths(2, 7), (np.array([6, 3]),)),
        "three samples of two": Case("margin_loss", _lengths(3, 2), (np.array([0, 1, 1]),)),
        "inside the margins": Case("margin_loss", _INSIDE, (np.array([0, 2]),)),
    },
}
