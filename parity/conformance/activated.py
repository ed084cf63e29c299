"""The mistakes of public code in other routings than dynamic, each a switch of the oracle's.

Each function is the oracle's of its name with switches that make it wrong, as in `mistakes.py`.

Axes: B batch, I input capsules, J output capsules, D size of a pose.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity import reference
from parity.reference.routing._em import compete
from parity.reference.routing._variational_bayes import LEAST, digamma

Array = np.ndarray
OUTPUTS = ("poses", "activations", "couplings")
LOGITS = ("poses", "logits", "couplings")  # where a norm makes activations of them
UNCHOSEN = "a class that no child chooses"


def self_routing(
    votes_BIJD: Array,
    activations_BI: Array,
    logits_BIJ: Array,
    *,
    softmax_over: str = "outputs",
    divide_by: str = "activations",
    weigh_by: str = "both",
) -> tuple[Array, ...]:
    """Self-routing with wrong coefficients, a wrong mean or wrong weights of poses."""
    votes_BIJD, activations_BI = map(reference.double, (votes_BIJD, activations_BI))
    logits_BIJ = reference.double(logits_BIJ)
    coupling = reference.softmax(logits_BIJ)
    if softmax_over == "inputs":
        coupling = reference.softmax(logits_BIJ.swapaxes(1, 2)).swapaxes(1, 2)
    sent = coupling * activations_BI[..., None]
    children = activations_BI.shape[1]
    divisor = {"activations": activations_BI.sum(1, keepdims=True), "children": children, "": 1}
    weights = {"both": sent, "coupling": coupling}[weigh_by]
    poses = np.einsum("bij,bijd->bjd", weights, votes_BIJD) / weights.sum(1)[..., None]
    return poses, sent.sum(1) / divisor[divide_by], coupling


def em(
    votes_BIJD: Array,
    activations_BI: Array,
    *,
    beta_a_J: Array,
    beta_u_J: Array,
    num_iters: int,
    inverse_temperature: float,
    min_variance: float,
    released: bool,
    cancel: bool = False,
    cost: str = "components",
    heat: str = "growing",
    last_step: str = "m",
    distance: str = "variance",
) -> tuple[Array, ...]:
    """EM routing, procedure 1 for one parent place, with wrong steps."""
    assert not released
    votes, activations = map(reference.double, (votes_BIJD, activations_BI))
    coupling = np.full(votes.shape[:3], 1 / votes.shape[2])
    mean = variance = logit = np.zeros(0)
    for t in range(num_iters):
        sent = coupling * activations[..., None]
        # Divided by its sum over the parents, a child's activation cancels.
        sent = sent / sent.sum(-1, keepdims=True) if cancel else sent
        mass = sent.sum(1)[..., None] + 1e-7
        mean = np.einsum("bij,bijd->bjd", sent, votes) / mass
        apart = votes - mean[:, None]
        variance = np.einsum("bij,bijd->bjd", sent, apart * apart) / mass + min_variance
        logs = np.log(variance) / 2
        costs = (beta_u_J[:, None] + logs) * mass
        if cost == "parents":
            costs = logs * mass + beta_u_J[:, None] * mass / votes.shape[3]
        warm = {"growing": 1 - 0.95 ** (t + 1), "late": 1 - 0.95 ** (t + 2), "constant": 1.0}[heat]
        logit = inverse_temperature * warm * (beta_a_J - costs.sum(-1))
        if t < num_iters - 1 or last_step == "e":
            twice = 2 * variance if distance == "variance" else np.sqrt(variance)
            log_density = -(apart * apart / twice[:, None]).sum(-1) - logs.sum(-1)[:, None]
            coupling = reference.softmax(log_density - np.log1p(np.exp(-logit))[:, None])
    return mean, reference.sigmoid(logit), coupling


def inverted_attention(
    votes_BIJD: Array,
    *,
    poses_BJD: Array,
    softmax_over: str = "outputs",
    divide_by: str = "root",
    agree_with: str = "before",
    after: str = "",
) -> tuple[Array, ...]:
    """A step of inverted attention with a wrong softmax, agreement, or what a layer does after."""
    votes_BIJD, poses_BJD = map(reference.double, (votes_BIJD, poses_BJD))
    size, mean = votes_BIJD.shape[3], votes_BIJD.mean(1)
    asked = {"before": poses_BJD, "sum": votes_BIJD.sum(1), "none": 0 * mean}[agree_with]
    divisor = {"root": np.sqrt(size), "size": size, "": 1}[divide_by]
    logits = np.einsum("bijd,bjd->bij", votes_BIJD, asked) / divisor
    coupling = reference.softmax(logits)
    if softmax_over == "inputs":
        coupling = reference.softmax(logits.swapaxes(1, 2)).swapaxes(1, 2)
    poses = np.einsum("bij,bijd->bjd", coupling, votes_BIJD)
    if after == "squash":
        poses = reference.squash(poses)
    elif after == "norm":
        rows = poses.reshape(-1, size)
        poses = reference.norm.layer(rows, None, None, epsilon=1e-5).reshape(poses.shape)
    return poses, coupling


def variational_bayes(
    votes_BIJD: Array,
    activations_BI: Array,
    *,
    beta_a_J: Array,
    beta_u_J: Array,
    num_iters: int,
    covariance: str,
    cancel: bool = False,
    around: str = "votes",
    measure: str = "posterior",
    divide: bool = False,
    first: int = 0,
    uncertain: bool = True,
) -> tuple[Array, ...]:
    """Variational Bayes routing for one parent place, with wrong steps, by the released formulas.

    `around` is what votes are taken from in the inverse scale, `measure` in the assignments.
    """
    assert covariance == "diagonal"
    votes, activations = map(reference.double, (votes_BIJD, activations_BI))
    size = votes.shape[3]
    coupling = np.full(votes.shape[:3], 1 / votes.shape[2])
    mean = logit = np.zeros(0)
    for t in range(num_iters):
        sent = coupling * activations[..., None]
        # Divided by its sum over the parents, a child's activation cancels.
        sent = sent / sent.sum(-1, keepdims=True) if cancel else sent
        mass = sent.sum(1)
        alpha, kappa, nu = 1 + mass, 1 + mass[..., None], size + 1 + mass
        total = np.einsum("bij,bijd->bjd", sent, votes)
        mean, own = total / kappa, total / mass[..., None]
        middle = own if around == "votes" else mean
        apart = votes - middle[:, None]
        inner = np.einsum("bij,bijd->bjd", sent, apart * apart)
        inner = inner / mass[..., None] if divide else inner
        inverse = 1 + inner + mass[..., None] / kappa * middle * middle
        weight = digamma(alpha) - digamma(alpha.sum(-1, keepdims=True))
        halves = (nu[..., None] - np.arange(first, size + first)) / 2
        precision = digamma(halves).sum(-1) + size * np.log(2) - np.log(inverse).sum(-1)
        if t < num_iters - 1:
            apart = votes - (mean if measure == "posterior" else own)[:, None]
            square = nu[:, None] * (apart * apart / inverse[:, None]).sum(-1)
            square = square + size / kappa[:, None, :, 0] if uncertain else square
            logits = weight + (precision - size * np.log(2 * np.pi)) / 2
            coupling = compete((logits[:, None] - square / 2)[:, None], None, LEAST)[:, 0]
        entropy = (size * (1 + np.log(2 * np.pi)) - precision) / 2
        logit = beta_a_J - (np.exp(weight) * entropy + beta_u_J)
    return mean, logit, coupling


MISTAKES: dict[str, dict[str, Mapping[str, Any]]] = {
    "self_routing": {
        "softmax over input capsules": {"softmax_over": "inputs"},
        "activations divided by the number of children": {"divide_by": "children"},
        "activations not divided by their sum": {"divide_by": ""},
        "poses weighted by the couplings alone": {"weigh_by": "coupling"},
    },
    "em": {
        "a child's activation cancels: assignments normalised after it": {"cancel": True},
        "beta_u once a parent instead of once a component": {"cost": "parents"},
        "a constant inverse temperature": {"heat": "constant"},
        "the inverse temperature of the next iteration": {"heat": "late"},
        "an E-step after the last M-step": {"last_step": "e"},
        "the deviation for twice the variance in the E-step": {"distance": "deviation"},
    },
    "inverted_attention": {
        "agreements not divided by the root of D": {"divide_by": ""},
        "agreements divided by D instead of its root": {"divide_by": "size"},
        "softmax over input capsules": {"softmax_over": "inputs"},
        "agreement with the sum of the votes instead of the poses before": {"agree_with": "sum"},
        "the poses before not used": {"agree_with": "none"},
        "poses squashed": {"after": "squash"},
        "poses normalised, which the layer does with its scale and shift": {"after": "norm"},
    },
    "variational_bayes": {
        "activations not multiplied in, or cancelled by a norm after it": {"cancel": True},
        "the posterior mean for the votes' own in the inverse scale": {"around": "posterior"},
        "the votes' own mean for the posterior one in the assignments": {"measure": "votes"},
        "a variance for a sum: the inverse scale divided by the mass": {"divide": True},
        "digamma of nu - 1 to nu - D, not of nu to nu - D + 1": {"first": 1},
        "the uncertainty of the mean, D / kappa, forgotten": {"uncertain": False},
    },
}
