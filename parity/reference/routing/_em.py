"""EM routing (Hinton, Sabour, Frosst 2018, "Matrix capsules with EM routing", procedure 1).

Axes: B batch, P parent places, I input capsules of a window, J output capsules, D size of a pose,
H W the grid of children, M places of a window, T types of children; I is M T.
"""

import numpy as np

from parity import schedule
from parity.reference.arrays import Array, double, sigmoid
from parity.reference.capsules import Tap, no_tap
from parity.reference.routing._dynamic import softmax
from parity.spec import Window, check_activations, check_iterations


def compete(logits_BPIJ, window: Window | None, least: float = 0.0) -> Array:
    """Assignments: a softmax over all parents of a child, in all windows that hold it.

    Args:
        logits_BPIJ: Of each child of each window; a child stands in several windows.
        window: The windows; None where one holds the whole grid, and types alone compete.
        least: What divides the powers of a child's logits where their sum is smaller.

    Returns:
        The shape of `logits_BPIJ`; over the windows of a child and the types they sum to 1, or to
        less where `least` divides.
    """
    logits_BPIJ = double(logits_BPIJ)
    if window is None:
        return _shares(logits_BPIJ, least)
    found, (holders, types) = np.zeros_like(logits_BPIJ), _holders(window, logits_BPIJ.shape[2])
    for places in holders.values():
        for t in range(types):
            at = [(parent, place * types + t) for parent, place in places]
            every = np.stack([logits_BPIJ[:, p, i] for p, i in at], 1)  # B, windows, J
            shares = _shares(every.reshape(len(every), -1), least).reshape(every.shape)
            for n, (p, i) in enumerate(at):
                found[:, p, i] = shares[:, n]
    return found


def _shares(logits: Array, least: float) -> Array:
    """exp(logits) over their sum along the last axis, or over `least` where that is larger."""
    if not least:
        return softmax(logits)
    shift = np.real(logits).max(-1, keepdims=True)
    total = np.log(np.exp(logits - shift).sum(-1, keepdims=True))
    floor = np.log(least) - shift
    return np.exp(logits - shift - np.where(np.real(total) > floor, total, floor))


def _holders(window: Window, children: int) -> tuple[dict, int]:
    """Child place -> its (parent place, place in the window) of every window; and the types."""
    holders: dict[tuple[int, int], list[tuple[int, int]]] = {}
    (rows, columns), (height, width) = window.places, window.kernel
    for y, x in np.ndindex(rows, columns):
        for m, n in np.ndindex(height, width):
            child = y * window.stride + m, x * window.stride + n
            holders.setdefault(child, []).append((y * columns + x, m * width + n))
    return holders, children // (height * width)


def compete_released(logits_BPIJ, window: Window) -> Array:
    """The assignments of the released code, in windows: each type on its own, over places.

    It takes windows whose y + m and x + n are the same for those of one child, which is so at
    stride 1 alone. The shift by the largest logit of a type does not cancel, for the 1e-7.
    """
    logits_BPIJ = double(logits_BPIJ)
    batch, places, children, outputs = logits_BPIJ.shape
    (rows, columns), (height, width) = window.places, window.kernel
    alike = window._replace(grid=(rows + height - 1, columns + width - 1), stride=1)
    holders, types = _holders(alike, children)
    # The largest logit of each type of child and parent, of all places; differentiated too.
    split = logits_BPIJ.reshape(batch, places, -1, types, outputs).swapaxes(1, 3)
    flat = split.reshape(batch, types, -1, outputs)
    at = np.real(flat).argmax(2)[:, :, None]
    shift_B11TJ = np.take_along_axis(flat, at, 2).reshape(batch, 1, 1, types, outputs)
    powers = logits_BPIJ.reshape(batch, places, -1, types, outputs) - shift_B11TJ
    powers, total = np.exp(powers), np.zeros_like(powers)
    for group in holders.values():
        whole = sum(powers[:, p, m] for p, m in group)
        for p, m in group:
            total[:, p, m] = whole
    return (powers / (total + 1e-7)).reshape(logits_BPIJ.shape)


def em(
    votes_BIJD,
    activations_BI,
    *,
    beta_a_J,
    beta_u_J,
    window: Window | None = None,
    num_iters: int = 3,
    inverse_temperature: float = 0.01,
    min_variance: float = 5e-4,
    released: bool = False,
    tap: Tap = no_tap,
) -> tuple[Array, Array, Array]:
    """EM routing (Hinton, Sabour, Frosst 2018, procedure 1).

    Parents are Gaussians of the votes, and nothing is detached. By default the paper's rule, with
    the constants of the authors' released code where the paper has none. Each sample is routed on
    its own.

    Args:
        votes_BIJD: The vote of each input capsule for each output capsule, [B, I, J, D]; with a
            window [B, P, I, J, D] of each child of each parent place.
        activations_BI: Of the input capsules, 0 to 1; with a window [B, P, I].
        beta_a_J: The threshold of an output capsule's activation, in the paper's procedure 1.
        beta_u_J: The cost of a component's description, alike.
        window: The windows that parents see, children in (row, column, type) order; None where
            each parent sees every child.
        num_iters: Iterations, at least 1.
        inverse_temperature: That of iteration t is this times 1 - 0.95^(t + 1).
        min_variance: Added to each variance.
        released: Whether as the authors' code: in windows types do not compete, and neither do
            places but as its stride of 1 has them; means keep a tenth of the last one, from 0;
            assignments begin at 1 / J; a denominator has 1e-5 where one window is the grid.
        tap: Sees, and may replace, routing.t.{logits, coupling, mean, variance, logit} for t from
            0; `logit` is that of the activations, and there are no logits for t = 0, else less the
            logarithm of the largest a / prod sigma of an image.

    Returns:
        Poses [B, J, D], activations [B, J] and the last assignments [B, I, J]; with a window
        each has P after B.

    Raises:
        SpecError: For activations outside of 0 to 1, or no iterations.
    """
    check_iterations(num_iters)
    check_activations(np.real(double(activations_BI)))
    votes, activations_BPI = double(votes_BIJD), double(activations_BI)
    if window is None:
        votes, activations_BPI = votes[:, None], activations_BPI[:, None]
    beta_a_J, beta_u_J = double(beta_a_J), double(beta_u_J)[:, None]
    outputs = votes.shape[3]

    def show(name: str, x: Array) -> Array:
        """The tap, of tensors that have parent places where there are windows."""
        return tap(name, x[:, 0])[:, None] if window is None else tap(name, x)

    keep = 0.1 if released else 0.0
    min_mass = 1e-5 if released and window is None else 1e-7
    coupling = compete(np.zeros(votes.shape[:-1]), window)
    if released:
        coupling = np.full(votes.shape[:-1], 1 / outputs)
    mean_BPJD = np.zeros(())
    variance_BPJD = logit_BPJ = mean_BPJD
    for t in range(num_iters):
        if t > 0:  # the E-step, in logarithms
            apart = votes - mean_BPJD[:, :, None]
            logits = -(apart * apart / (2 * variance_BPJD[:, :, None])).sum(-1)
            density = _log_sigmoid(logit_BPJ) - np.log(variance_BPJD).sum(-1) / 2
            # Of an image they count by their differences: wings round what is near 0 least.
            density = density - density.real.max((1, 2), keepdims=True)
            logits = show(f"routing.{t}.logits", logits + density[:, :, None])
            if released and window is not None:
                coupling = compete_released(logits, window)
            else:
                coupling = compete(logits, window)
        coupling = show(f"routing.{t}.coupling", coupling)
        # The M-step: mass, mean and variance of the votes of active children.
        sent = coupling * activations_BPI[..., None]
        mass_BPJ = sent.sum(2) + min_mass
        mean = np.einsum("bpij,bpijd->bpjd", sent, votes) / mass_BPJ[..., None]
        mean = (1 - keep) * mean + keep * mean_BPJD
        apart = votes - mean[:, :, None]
        variance = np.einsum("bpij,bpijd->bpjd", sent, apart * apart) / mass_BPJ[..., None]
        # Shown after the variance took it, whose slope by the mean is 0 but for rounding.
        mean_BPJD = show(f"routing.{t}.mean", mean)
        variance_BPJD = show(f"routing.{t}.variance", variance + min_variance)
        cost_BPJ = ((beta_u_J + np.log(variance_BPJD) / 2) * mass_BPJ[..., None]).sum(-1)
        heat = schedule.inverse_temperature(inverse_temperature, t)
        logit_BPJ = show(f"routing.{t}.logit", heat * (beta_a_J - cost_BPJ))
    found = mean_BPJD, sigmoid(logit_BPJ), coupling
    poses, activations, coupling = (each[:, 0] for each in found) if window is None else found
    return poses, activations, coupling


def _log_sigmoid(x: Array) -> Array:
    """log(sigmoid(x)), which does not underflow."""
    negative = np.real(x) < 0
    return np.where(negative, x, 0) - np.log1p(np.exp(np.where(negative, x, -x)))
