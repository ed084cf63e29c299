"""EM routing (Hinton, Sabour, Frosst 2018, "Matrix capsules with EM routing", procedure 1).

Axes: B batch, P parent places, I input capsules of a window, J output capsules, D size of a pose,
H W the grid of children, M places of a window, T types of children; I is M T.

The votes for a parent lie together, so that its sums over children are products of matrices.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax

from jax_caps.arrays import concrete
from jax_caps.capsules import Tap, no_tap
from jax_caps.convolution import overlap, windows
from parity import schedule
from parity.spec import Window, check_activations, check_iterations


def compete(logits_BPIJ: Array, window: Window | None, least: float = 0.0) -> Array:
    """Assignments: a softmax over all parents of a child, in all windows that hold it.

    Args:
        logits_BPIJ: Of each child of each window; a child stands in several windows.
        window: The windows; None where one holds the whole grid, and types alone compete.
        least: What divides the powers of a child's logits where their sum is smaller.

    Returns:
        The shape of `logits_BPIJ`; over the windows of a child and the types they sum to 1, or to
        less where `least` divides.
    """
    if window is None and not least:
        return jax.nn.softmax(logits_BPIJ)
    shape = logits_BPIJ.shape

    def of_child(x_BPI: Array, largest: bool) -> Array:
        """The sum or the largest over the windows of each child, in each of these windows."""
        if window is None:
            return x_BPI
        x_BYXMT = x_BPI.reshape(x_BPI.shape[0], *window.places, math.prod(window.kernel), -1)
        x_BHWT = overlap(x_BYXMT, *window, largest=largest)
        return windows(x_BHWT, window.kernel, window.stride).reshape(shape[:3])

    # Shifted by the child's largest logit, which cancels: no logit is too large, no sum 0.
    shift_BPI = of_child(lax.stop_gradient(logits_BPIJ).max(-1), True)
    powers_BPIJ = jnp.exp(logits_BPIJ - shift_BPI[..., None])
    total_BPI = of_child(powers_BPIJ.sum(-1), False)
    if least:
        floor_BPI = jnp.exp(math.log(least) - shift_BPI)
        total_BPI = jnp.where(total_BPI > floor_BPI, total_BPI, floor_BPI)
    return powers_BPIJ / total_BPI[..., None]


def compete_released(logits_BPIJ: Array, window: Window) -> Array:
    """The assignments of the released code, in windows: each type on its own, over places.

    It takes windows whose y + m and x + n are the same for those of one child, which is so at
    stride 1 alone. The shift by the largest logit of a type does not cancel, for the 1e-7.
    """
    (rows, columns), (height, width) = window.places, window.kernel
    batch, _, _, outputs = logits_BPIJ.shape
    logits = logits_BPIJ.reshape(batch, rows, columns, height * width, -1, outputs)
    shift = logits.max((1, 2, 3), keepdims=True)
    powers = jnp.exp(logits - shift)
    grid = rows + height - 1, columns + width - 1
    total = windows(overlap(powers, grid, window.kernel, 1), window.kernel, 1)
    return (powers / (total + 1e-7)).reshape(logits_BPIJ.shape)


def em(
    votes_BIJD: Array,
    activations_BI: Array,
    *,
    beta_a_J: Array,
    beta_u_J: Array,
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
    check_activations(concrete(activations_BI))
    votes, activations_BPI = votes_BIJD, activations_BI
    if window is None:
        votes, activations_BPI = votes[:, None], activations_BPI[:, None]
    votes_BPJID = votes.swapaxes(2, 3)
    (*shape, outputs, inputs, size), active = votes_BPJID.shape, activations_BPI[:, :, None]

    def show(name: str, x: Array) -> Array:
        """The tap, of tensors that have parent places where there are windows."""
        return tap(name, x[:, 0])[:, None] if window is None else tap(name, x)

    keep = 0.1 if released else 0.0
    min_mass = 1e-5 if released and window is None else 1e-7
    # Behind a barrier, or XLA folds the first assignments, of constants, by itself.
    even = lax.optimization_barrier(jnp.zeros((1, shape[1], inputs, outputs), votes.dtype))
    coupling = compete(even, window)
    if released:
        coupling = jnp.full_like(coupling, 1 / outputs)
    # The first assignments are alike for all images.
    coupling = jnp.broadcast_to(coupling, (*shape, inputs, outputs))
    mean_BPJD = variance_BPJD = jnp.zeros((*shape, outputs, size), votes.dtype)
    logit_BPJ = mean_BPJD[..., 0]
    for t in range(num_iters):
        if t > 0:  # the E-step, in logarithms
            square_BPJID = (votes_BPJID - mean_BPJD[..., None, :]) ** 2
            apart = jnp.einsum("bpjid,bpjd->bpji", square_BPJID, 0.5 / variance_BPJD)
            density_BPJ = (
                jax.nn.log_sigmoid(logit_BPJ) - jnp.log(variance_BPJD / min_variance).sum(-1) / 2
            )
            # Of an image they count by their differences: float32 rounds what is near 0 least.
            largest_B11 = lax.stop_gradient(density_BPJ).max((1, 2), keepdims=True)
            density_BPJ = density_BPJ - largest_B11
            logits = (density_BPJ[..., None] - apart).swapaxes(2, 3)
            logits = show(f"routing.{t}.logits", logits)
            if released and window is not None:
                coupling = compete_released(logits, window)
            else:
                coupling = compete(logits, window)
        coupling = show(f"routing.{t}.coupling", coupling)
        # The M-step: mass, mean and variance of the votes of active children.
        sent_BPJI = coupling.swapaxes(2, 3) * active
        mass_BPJ1 = sent_BPJI.sum(-1, keepdims=True) + min_mass
        mean = jnp.einsum("bpji,bpjid->bpjd", sent_BPJI, votes_BPJID) / mass_BPJ1
        mean = (1 - keep) * mean + keep * mean_BPJD
        square_BPJID = (votes_BPJID - mean[..., None, :]) ** 2
        variance = jnp.einsum("bpji,bpjid->bpjd", sent_BPJI, square_BPJID) / mass_BPJ1
        # Shown after the variance took it, whose slope by the mean is 0 but for rounding.
        mean_BPJD = show(f"routing.{t}.mean", mean)
        variance_BPJD = show(f"routing.{t}.variance", variance + min_variance)
        cost = (beta_u_J[None, None, :, None] + jnp.log(variance_BPJD) / 2) * mass_BPJ1
        heat = schedule.inverse_temperature(inverse_temperature, t)
        logit_BPJ = show(f"routing.{t}.logit", heat * (beta_a_J[None, None] - cost.sum(-1)))
    activations = jax.nn.sigmoid(logit_BPJ)
    if window is None:
        return mean_BPJD[:, 0], activations[:, 0], coupling[:, 0]
    return mean_BPJD, activations, coupling
