"""EM routing (Hinton, Sabour, Frosst 2018, "Matrix capsules with EM routing", procedure 1).

Axes: B batch, P parent places, I input capsules of a window, J output capsules, D size of a pose,
H W the grid of children, M places of a window, T types of children; I is M T.

The votes for a parent lie together, so that its sums over children are products of matrices.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from parity import schedule
from parity.spec import Window, check_activations, check_iterations
from torch_caps.arrays import concrete
from torch_caps.capsules import Tap, no_tap
from torch_caps.convolution import overlap, windows


def compete(logits_BPIJ: Tensor, window: Window | None, least: float = 0.0) -> Tensor:
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
        return logits_BPIJ.softmax(-1)
    shape = logits_BPIJ.shape

    def of_child(x_BPI: Tensor, largest: bool) -> Tensor:
        """The sum or the largest over the windows of each child, in each of these windows."""
        if window is None:
            return x_BPI
        x_BYXMT = x_BPI.reshape(x_BPI.shape[0], *window.places, math.prod(window.kernel), -1)
        x_BHWT = overlap(x_BYXMT, *window, largest=largest)
        return windows(x_BHWT, window.kernel, window.stride).reshape(shape[:3])

    # Shifted by the child's largest logit, which cancels: no logit is too large, no sum 0.
    shift_BPI = of_child(logits_BPIJ.detach().amax(-1), True)
    powers_BPIJ = (logits_BPIJ - shift_BPI[..., None]).exp()
    total_BPI = of_child(powers_BPIJ.sum(-1), False)
    if least:
        floor_BPI = (math.log(least) - shift_BPI).exp()
        total_BPI = torch.where(total_BPI > floor_BPI, total_BPI, floor_BPI)
    return powers_BPIJ / total_BPI[..., None]


def compete_released(logits_BPIJ: Tensor, window: Window) -> Tensor:
    """The assignments of the released code, in windows: each type on its own, over places.

    It takes windows whose y + m and x + n are the same for those of one child, which is so at
    stride 1 alone. The shift by the largest logit of a type does not cancel, for the 1e-7.
    """
    (rows, columns), (height, width) = window.places, window.kernel
    batch, _, _, outputs = logits_BPIJ.shape
    logits = logits_BPIJ.reshape(batch, rows, columns, height * width, -1, outputs)
    shift = logits.amax((1, 2, 3), keepdim=True)
    powers = (logits - shift).exp()
    grid = rows + height - 1, columns + width - 1
    total = windows(overlap(powers, grid, window.kernel, 1), window.kernel, 1)
    return (powers / (total + 1e-7)).reshape(logits_BPIJ.shape)


def _moments(
    votes_BPJID: Tensor, shares_BPJI: Tensor, last_BPJD: Tensor, keep: float
) -> tuple[Tensor, Tensor]:
    """The mean of votes, of which some is the last one, and the variance around it."""
    mean = torch.einsum("...i,...id->...d", shares_BPJI, votes_BPJID)
    mean = (1 - keep) * mean + keep * last_BPJD
    square = (votes_BPJID - mean[..., None, :]) ** 2
    return mean, torch.einsum("...i,...id->...d", shares_BPJI, square)


def _distances(votes_BPJID: Tensor, mean_BPJD: Tensor, rate_BPJD: Tensor) -> Tensor:
    """The squared distance of votes from a mean, each component times its rate."""
    square = (votes_BPJID - mean_BPJD[..., None, :]) ** 2
    return torch.einsum("...id,...d->...i", square, rate_BPJD)


def _plain(*tensors: Tensor) -> bool:
    """Whether a compiler fuses the plain functions, or they are differentiated in forward mode."""
    dual = (forward_ad.unpack_dual(each).tangent is not None for each in tensors)
    return torch.compiler.is_compiling() or any(dual)


def _by_parents(tensors: Sequence[Tensor]) -> Iterator[Any]:
    """Votes, and what else parents have, of as many parents as a core's cache holds."""
    fits = 2**17 if tensors[0].device.type == "cpu" else 2**28
    size = max(1, fits // max(1, tensors[0][0, 0, 0].numel()))
    yield from zip(*(tensor.flatten(0, 2).split(size) for tensor in tensors), strict=True)


def _sum(x_NI: Tensor, y_NID: Tensor) -> Tensor:
    return torch.bmm(x_NI[:, None], y_NID)[:, 0]


def _product(x_NID: Tensor, y_ND: Tensor) -> Tensor:
    return torch.bmm(x_NID, y_ND[..., None])[..., 0]


class _Moments(torch.autograd.Function):
    """`_moments` by blocks of parents: what is made of a block's votes stays in cache.

    Nothing of that is kept for the gradient, which makes it again.
    """

    @staticmethod
    def forward(votes: Tensor, shares: Tensor, last: Tensor, keep: float) -> Any:
        mean, variance = last.new_empty(last.shape), last.new_empty(last.shape)
        given = votes, shares, last, mean, variance
        for votes_NID, shares_NI, last_ND, mean_ND, variance_ND in _by_parents(given):
            mean_ND.copy_((1 - keep) * _sum(shares_NI, votes_NID) + keep * last_ND)
            apart_NID = votes_NID - mean_ND[:, None]
            variance_ND.copy_(_sum(shares_NI, apart_NID.square_()))
        return mean, variance

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.keep = inputs
        ctx.save_for_backward(*tensors, output[0])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        *tensors, mean = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *_twice(_moments, (*tensors, ctx.keep), slopes), None
        votes, shares, _ = tensors
        made = [each.new_empty(each.shape) for each in tensors]
        for part in _by_parents((votes, shares, mean, *slopes, *made)):
            votes_NID, shares_NI, mean_ND, mean_slope, slope, to_votes, to_shares, to_last = part
            apart_NID = votes_NID - mean_ND[:, None]
            # The variance's slope by the mean is 0 but where shares do not sum to 1.
            mean_slope = mean_slope - 2 * slope * _sum(shares_NI, apart_NID)
            own = (1 - ctx.keep) * mean_slope
            torch.addcmul(own[:, None], apart_NID, 2 * slope[:, None], out=to_votes)
            to_votes.mul_(shares_NI[..., None])
            to_shares.copy_(_product(votes_NID, own))
            to_shares.add_(_product(apart_NID.square_(), slope))
            torch.mul(mean_slope, ctx.keep, out=to_last)
        return *made, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *given: Any) -> Any:
        return torch.vmap(_moments, in_dims)(*given), (0, 0)


class _Distances(torch.autograd.Function):
    """`_distances` likewise."""

    @staticmethod
    def forward(votes: Tensor, mean: Tensor, rate: Tensor) -> Any:
        apart = votes.new_empty(votes.shape[:-1])
        for votes_NID, mean_ND, rate_ND, apart_NI in _by_parents((votes, mean, rate, apart)):
            apart_NI.copy_(_product((votes_NID - mean_ND[:, None]).square_(), rate_ND))
        return apart

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        tensors, (slope,) = ctx.saved_tensors, slopes
        if torch.is_grad_enabled():
            return _twice(_distances, tensors, slope)
        made = [each.new_empty(each.shape) for each in tensors]
        for part in _by_parents((*tensors, slope, *made)):
            votes_NID, mean_ND, rate_ND, slope_NI, to_votes, to_mean, to_rate = part
            apart_NID = votes_NID - mean_ND[:, None]
            double_ND = 2 * rate_ND
            to_mean.copy_(-double_ND * _sum(slope_NI, apart_NID))
            torch.mul(slope_NI[..., None], double_ND[:, None], out=to_votes)
            to_votes.mul_(apart_NID)
            to_rate.copy_(_sum(slope_NI, apart_NID.square_()))
        return tuple(made)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *given: Any) -> Any:
        return torch.vmap(_distances, in_dims)(*given), 0


def _twice(function: Any, given: Sequence[Any], slopes: Any) -> Any:
    """The gradient as something that is differentiated too."""
    return torch.func.vjp(lambda *each: function(*each, *given[3:]), *given[:3])[1](slopes)


def em(
    votes_BIJD: Tensor,
    activations_BI: Tensor,
    *,
    beta_a_J: Tensor,
    beta_u_J: Tensor,
    window: Window | None = None,
    num_iters: int = 3,
    inverse_temperature: float = 0.01,
    min_variance: float = 5e-4,
    released: bool = False,
    tap: Tap = no_tap,
) -> tuple[Tensor, Tensor, Tensor]:
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
    votes_BPJID = votes.transpose(2, 3).contiguous()
    moments, distances = _moments, _distances
    if tap is no_tap and not _plain(votes, activations_BI, beta_a_J, beta_u_J):
        moments, distances = _Moments.apply, _Distances.apply
    (*shape, outputs, inputs, size), active = votes_BPJID.shape, activations_BPI[:, :, None]

    def show(name: str, x: Tensor) -> Tensor:
        """The tap, of tensors that have parent places where there are windows."""
        return tap(name, x[:, 0])[:, None] if window is None else tap(name, x)

    keep = 0.1 if released else 0.0
    min_mass = 1e-5 if released and window is None else 1e-7
    # The first assignments are alike for all images.
    coupling = compete(votes.new_zeros(1, shape[1], inputs, outputs), window)
    if released:
        coupling = torch.full_like(coupling, 1 / outputs)
    coupling = coupling.expand(shape[0], -1, -1, -1)
    mean_BPJD = variance_BPJD = votes.new_zeros(*shape, outputs, size)
    logit_BPJ = mean_BPJD[..., 0]
    for t in range(num_iters):
        if t > 0:  # the E-step, in logarithms
            apart = distances(votes_BPJID, mean_BPJD, 0.5 / variance_BPJD)
            density_BPJ = F.logsigmoid(logit_BPJ) - (variance_BPJD / min_variance).log().sum(-1) / 2
            # Of an image they count by their differences: float32 rounds what is near 0 least.
            density_BPJ = density_BPJ - density_BPJ.detach().amax((1, 2), keepdim=True)
            logits = (density_BPJ[..., None] - apart).transpose(2, 3)
            logits = show(f"routing.{t}.logits", logits)
            if released and window is not None:
                coupling = compete_released(logits, window)
            else:
                coupling = compete(logits, window)
        coupling = show(f"routing.{t}.coupling", coupling)
        # The M-step: mass, mean and variance of the votes of active children.
        sent_BPJI = (coupling.transpose(2, 3) * active).contiguous()
        mass_BPJ1 = sent_BPJI.sum(-1, keepdim=True) + min_mass
        mean, variance = moments(votes_BPJID, sent_BPJI / mass_BPJ1, mean_BPJD, keep)
        # Shown after the variance took it, whose slope by the mean is 0 but for rounding.
        mean_BPJD = show(f"routing.{t}.mean", mean)
        variance_BPJD = show(f"routing.{t}.variance", variance + min_variance)
        cost_BPJ = ((beta_u_J[:, None] + variance_BPJD.log() / 2) * mass_BPJ1).sum(-1)
        heat = schedule.inverse_temperature(inverse_temperature, t)
        logit_BPJ = show(f"routing.{t}.logit", heat * (beta_a_J - cost_BPJ))
    activations = logit_BPJ.sigmoid()
    if window is None:
        return mean_BPJD[:, 0], activations[:, 0], coupling[:, 0]
    return mean_BPJD, activations, coupling
