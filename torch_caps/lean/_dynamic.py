"""Dynamic routing that never stores the votes.

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose,
M the D of all J in a row, P each J of each B, S vectors of each P, C the input capsules of one
block, N the K of each C, T iterations.

Every logit is a vote times the sum V of the earlier outputs, b = <vote, V>. So all that an
iteration needs of the earlier ones is V, and it is one pass over blocks of input capsules, which
makes the votes of a block, uses them and drops them:

    vote_i = W_i^T u_i        c_i = softmax over J of <vote_i, V>        s = bias + sum_i c_i vote_i

In the first iteration every routing coefficient c is the same, so its s is one matrix product.
The pass forward makes not even the votes of a block: as <vote_i, V> = u_i (W_i V) and
c_i vote_i = (c_i u_i) W_i, a block takes two products, with all images in each.

What is kept for the gradient is each iteration's s. With g_t = dL/ds_t (that of the output
through the squash), iteration t contributes

    dvote_i += c_i g_t + e_i V_t        dV_t = sum_i e_i vote_i        dbias += sum over B of g_t

where e_i = c_i (a_i - sum over J of c_i a_i), a_i = <vote_i, g_t>, is what reaches the logits
(a leak has no vote, so the same holds with one). As V_t is the sum of the outputs before t, dV_t
is added to the gradient of each of them: iterations are walked from the last to the first, where
c is constant. A pass for each finds dV_t; the last of them, when every g but the first is known,
makes dvote_i for all at once, and with it dW_i = u_i dvote_i^T and du_i = W_i dvote_i.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from parity.spec import TwincapsError
from torch_caps.capsules import squash
from torch_caps.numerics import _uncompiled
from torch_caps.routing._dynamic import coupling


class _Options(NamedTuple):
    num_iters: int
    leaky: bool
    detach: bool
    block: int | None


def dynamic(
    inputs_BIK: Tensor,
    kernel_IJKD: Tensor,
    *,
    num_iters: int = 3,
    bias_JD: Tensor | None = None,
    leaky: bool = False,
    detach: bool = False,
    block: int | None = None,
) -> Tensor:
    """`routing.dynamic` of the votes of these inputs, which are never stored.

    It cannot be differentiated twice, nor in forward mode (`lean=False` can). torch.compile
    leaves it as it is; under torch.autocast it stays in float32. torch.func.vmap calls it once for
    each element.

    Args:
        inputs_BIK: The poses of the input capsules.
        kernel_IJKD: A matrix for each pair of an input and an output capsule.
        num_iters: Iterations; this and the next three are as in `routing.dynamic`.
        bias_JD: Added to the weighted sum before each squash.
        leaky: Whether an input capsule may also send to nothing.
        detach: Whether the last routing coefficients are constants to the gradient.
        block: Input capsules whose votes are in memory at a time; None chooses from the sizes.

    Returns:
        Poses [B, J, D], without the routing coefficients.

    Raises:
        ValueError: Where `num_iters` is below 1.
    """
    if num_iters < 1:
        raise ValueError(f"num_iters is {num_iters}; expected at least 1")
    options = _Options(num_iters, leaky, detach, block)
    return _apply(inputs_BIK, kernel_IJKD, bias_JD, options)[0]


def _fitting(inputs_BIK: Tensor, numbers: int, fits: int) -> int:
    """The input capsules of a block that has so many numbers for each of them in each image.

    Its bytes are at most `fits` on a CPU, 64 MiB on a GPU.
    """
    fits = fits if inputs_BIK.device.type == "cpu" else 2**26
    return fits // max(1, len(inputs_BIK) * numbers * inputs_BIK.element_size())


def _votes(inputs_CBK: Tensor, kernel_CKM: Tensor, like_PD: Tensor) -> Tensor:
    """The votes of a block, [P, C, D]."""
    return torch.bmm(inputs_CBK, kernel_CKM).view(-1, *like_PD.shape).transpose(0, 1)


def _agreements(votes_PCD: Tensor, vectors_SPD: Tensor, batch: int) -> Tensor:
    """The products of the votes with some vectors of each output capsule, [S, B, J, C]."""
    products_PCS = torch.bmm(votes_PCD, vectors_SPD.permute(1, 2, 0))
    return products_PCS.permute(2, 0, 1).unflatten(1, (batch, -1))


def _sum(weights_BJC: Tensor, votes_PCD: Tensor) -> Tensor:
    return torch.bmm(weights_BJC.flatten(0, 1)[:, None], votes_PCD)[:, 0]


def _to_logits(coupling: Tensor, slope: Tensor) -> Tensor:
    """The gradient of the logits [..., J, C] from that of their softmax."""
    return coupling * (slope - (coupling * slope).sum(-2, keepdim=True))


def _forward_block(inputs_BKC: Tensor, kernel_JND: Tensor, V_JBD: Tensor, leaky: bool) -> Tensor:
    """The share of a block of input capsules in an iteration's s, [J, B, D]."""
    # W_i V, of which the product with u_i is the logit.
    both_JBKC = torch.bmm(V_JBD, kernel_JND.mT).unflatten(2, (-1, inputs_BKC.shape[2]))
    coupling_JBC = coupling(both_JBKC.mul_(inputs_BKC).sum(2), leaky, 0)
    # c_i u_i, in its place.
    torch.mul(coupling_JBC[:, :, None], inputs_BKC, out=both_JBKC)
    return torch.bmm(both_JBKC.flatten(2), kernel_JND)


def _slope_block(
    inputs_CBK: Tensor, kernel_CKM: Tensor, V_PD: Tensor, g_PD: Tensor, leaky: bool
) -> Tensor:
    """The share of a block of input capsules in an iteration's dV."""
    votes_PCD = _votes(inputs_CBK, kernel_CKM, V_PD)
    vectors_SPD = torch.stack((V_PD, g_PD))
    logits_BJC, slope_BJC = _agreements(votes_PCD, vectors_SPD, inputs_CBK.shape[1])
    return _sum(_to_logits(coupling(logits_BJC, leaky, 1), slope_BJC), votes_PCD)


def _gradient_block(
    inputs_CBK: Tensor, kernel_CKM: Tensor, V_TPD: Tensor, g_TPD: Tensor, leaky: bool, detach: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """A block's share in the dV of the first of these iterations; du and dW of all."""
    batch = inputs_CBK.shape[1]
    votes_PCD = _votes(inputs_CBK, kernel_CKM, V_TPD[0])
    # dvote_i += c_i g_t + e_i V_t, over the iterations: weights c and e, vectors g and V.
    slope_PD = torch.zeros_like(V_TPD[0])
    if detach:
        vectors_SPD = g_TPD
        weights_SBJC = coupling(_agreements(votes_PCD, V_TPD, batch), leaky, 2)
    else:
        vectors_SPD = torch.cat((g_TPD, V_TPD))
        slope_TBJC, logits_TBJC = _agreements(votes_PCD, vectors_SPD, batch).chunk(2)
        coupling_TBJC = coupling(logits_TBJC, leaky, 2)
        weights_SBJC = torch.cat((coupling_TBJC, _to_logits(coupling_TBJC, slope_TBJC)))
        slope_PD = _sum(weights_SBJC[len(V_TPD)], votes_PCD)
    # All that reaches the votes is of rank 2T: one product instead of 2T passes over them.
    weights_PCS = weights_SBJC.flatten(1, 2).permute(1, 2, 0)
    dvotes_PCD = torch.bmm(weights_PCS, vectors_SPD.transpose(0, 1))
    # du_i = W_i dvote_i and dW_i = u_i dvote_i^T.
    dvotes_CBM = dvotes_PCD.transpose(0, 1).reshape(-1, batch, kernel_CKM.shape[2])
    return slope_PD, dvotes_CBM @ kernel_CKM.mT, inputs_CBK.mT @ dvotes_CBM


def _by_block(block: Callable[..., Any], size: int, tensors: tuple, *rest: Any) -> Iterator:
    """The results of a function of a block of input capsules, block after block."""
    for part in zip(*(tensor.split(size) for tensor in tensors), strict=True):
        yield block(*part, *rest)


def _through_squash(sum_PD: Tensor, dposes_PD: Tensor) -> Tensor:
    with torch.enable_grad():
        sum_PD = sum_PD.detach().requires_grad_()
        return torch.autograd.grad(squash(sum_PD), sum_PD, dposes_PD)[0]


def _blocks(inputs_BIK: Tensor, kernel_IJKD: Tensor) -> tuple[Tensor, Tensor]:
    """inputs_IBK and kernel_IKM, of which a block is a range of I."""
    return inputs_BIK.transpose(0, 1).contiguous(), kernel_IJKD.transpose(1, 2).flatten(2)


def _forward(
    options: _Options, inputs_BIK: Tensor, kernel_IJKD: Tensor, bias_JD: Tensor | None
) -> Tensor:
    """The s of every iteration: [T, P, D]."""
    batch, _, length = inputs_BIK.shape
    outputs, size = kernel_IJKD.shape[1::2]
    # The first s: a sum over I and K, divided by the outputs, and by the leak as one more.
    first_BM = inputs_BIK.flatten(1) @ kernel_IJKD.transpose(1, 2).reshape(-1, outputs * size)
    first_PD = first_BM.view(-1, size) / (outputs + options.leaky)
    bias_PD = first_PD.new_zeros(1) if bias_JD is None else bias_JD.repeat(batch, 1)
    sums = [first_PD + bias_PD]
    if options.num_iters == 1:
        return sums[0][None]
    # Products pay on wide blocks: four times the bytes of a block of votes.
    block = options.block or max(1, _fitting(inputs_BIK, outputs * length, 2**24))
    inputs = inputs_BIK.transpose(1, 2).contiguous().split(block, 2)
    kernels = [part.permute(1, 2, 0, 3).flatten(1, 2) for part in kernel_IJKD.split(block)]
    # Each further s: V takes in the last output, and a pass over the blocks adds up their shares.
    V_PD = torch.zeros_like(first_PD)
    for _ in range(1, options.num_iters):
        V_PD = V_PD + squash(sums[-1])
        V_JBD = V_PD.view(batch, outputs, size).transpose(0, 1)
        parts = (
            _forward_block(*part, V_JBD, options.leaky)
            for part in zip(inputs, kernels, strict=True)
        )
        sums.append(functools.reduce(torch.add, parts).transpose(0, 1).flatten(0, 1) + bias_PD)
    return torch.stack(sums)


def _backward(
    options: _Options,
    inputs_BIK: Tensor,
    kernel_IJKD: Tensor,
    sums_TPD: Tensor,
    dposes_PD: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """du_BIK, dW_IKM and the sum of every g, [P, D]."""
    tensors = _blocks(inputs_BIK, kernel_IJKD)
    # A product of fewer than 400 multiplications is a loop of torch's own, at a quarter the rate.
    size = kernel_IJKD.shape[3]
    block = options.block or max(-(-400 // size), _fitting(inputs_BIK, tensors[1].shape[2], 2**22))
    V_TPD = list(itertools.accumulate(squash(sums_TPD[:-1])))  # from t = 1
    g_TPD = [_through_squash(sums_TPD[-1], dposes_PD)]  # of the iterations walked so far
    du_IBK, dW_IKM = (torch.zeros_like(tensor) for tensor in tensors)
    # From here on the sum of dV: the gradient of the output of the iteration before.
    dposes_PD = torch.zeros_like(dposes_PD)
    for t in range(options.num_iters - 1, 0, -1):
        if t > 1 and not options.detach:
            # dV_t alone: what the votes get waits until every g is known.
            rest = V_TPD[t - 1], g_TPD[0], options.leaky
            parts = _by_block(_slope_block, block, tensors, *rest)
            dposes_PD = functools.reduce(torch.add, parts, dposes_PD)
        else:
            # The last pass: dV_t, and du and dW of all iterations walked so far.
            vectors = torch.stack(V_TPD[-len(g_TPD) :]), torch.stack(g_TPD)
            rest = *vectors, options.leaky, options.detach
            shares = _by_block(_gradient_block, block, tensors, *rest)
            into = zip(du_IBK.split(block), dW_IKM.split(block), strict=True)
            for (du_CBK, dW_CKM), (slope_PD, du, dW) in zip(into, shares, strict=True):
                du_CBK.copy_(du)
                dW_CKM.copy_(dW)
                dposes_PD = dposes_PD + slope_PD
        if options.detach:  # nothing flows to the iterations before
            return du_IBK.transpose(0, 1), dW_IKM, g_TPD[0]
        g_TPD.insert(0, _through_squash(sums_TPD[t - 1], dposes_PD))
    # The first iteration, whose coefficients are constants: two matrix products.
    g_BM = g_TPD[0].view(len(inputs_BIK), -1) / (kernel_IJKD.shape[1] + options.leaky)
    du_BIK = (g_BM @ tensors[1].flatten(0, 1).mT).view(inputs_BIK.shape)
    dW_IKM.flatten(0, 1).addmm_(inputs_BIK.flatten(1).mT, g_BM)
    return du_BIK.add_(du_IBK.transpose(0, 1)), dW_IKM, torch.stack(g_TPD).sum(0)


def _refusal(what: str) -> TwincapsError:
    return TwincapsError(
        f"lean routing has no {what}; build the network with lean=False, or call "
        "routing.dynamic, for routing that has"
    )


def _unbatched(function: Any, size: int, in_dims: Any, arguments: Any) -> Any:
    """A Function under vmap: one call for each element, as it works in place."""
    calls = []
    for n in range(size):
        pairs = zip(arguments, in_dims, strict=True)
        calls.append(function.apply(*(x.select(d, n) if type(d) is int else x for x, d in pairs)))
    stacked = tuple(
        None if one[0] is None else torch.stack(one) for one in zip(*calls, strict=True)
    )
    return stacked, tuple(None if x is None else 0 for x in stacked)


def _full(*tensors: Tensor | None) -> list[Any]:
    """The tensors, under autocast in float32 or wider: float16 overflows in routing."""
    given = [tensor for tensor in tensors if tensor is not None]
    if not torch.is_autocast_enabled(given[0].device.type):
        return list(tensors)
    wide = functools.reduce(torch.promote_types, (tensor.dtype for tensor in given), torch.float32)
    return [None if tensor is None else tensor.to(wide) for tensor in tensors]


class _Dynamic(torch.autograd.Function):
    """Poses [B, J, D], and for the gradient the s of every iteration."""

    @staticmethod
    def forward(inputs_BIK, kernel_IJKD, bias_JD, options):
        inputs_BIK, kernel_IJKD, bias_JD = _full(inputs_BIK, kernel_IJKD, bias_JD)
        with torch.autocast(inputs_BIK.device.type, enabled=False):
            sums_TPD = _forward(options, inputs_BIK, kernel_IJKD, bias_JD)
            return squash(sums_TPD[-1]).unflatten(0, (len(inputs_BIK), -1)), sums_TPD

    @staticmethod
    def setup_context(ctx, inputs, output):
        inputs_BIK, kernel_IJKD, bias_JD, ctx.options = inputs
        ctx.biased = bias_JD is not None
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs_BIK, kernel_IJKD, output[1])

    @staticmethod
    def backward(ctx, *dposes_BJD):
        gradients = _Gradient.apply(*ctx.saved_tensors, dposes_BJD[0], ctx.options)
        return *gradients[:2], gradients[2] if ctx.biased else None, None

    @staticmethod
    def vmap(info, in_dims, *arguments):
        return _unbatched(_Dynamic, info.batch_size, in_dims, arguments)

    @staticmethod
    def jvp(ctx, *tangents):
        raise _refusal("forward-mode derivatives")


class _Gradient(torch.autograd.Function):
    """du_BIK, dW_IJKD and dbias_JD: a Function, so that it can refuse derivatives."""

    @staticmethod
    def forward(inputs_BIK, kernel_IJKD, sums_TPD, dposes_BJD, options):
        inputs_BIK, kernel_IJKD, dposes_BJD = (
            tensor.to(sums_TPD) for tensor in (inputs_BIK, kernel_IJKD, dposes_BJD)
        )
        with torch.autocast(inputs_BIK.device.type, enabled=False):
            parts = inputs_BIK, kernel_IJKD, sums_TPD, dposes_BJD.flatten(0, 1)
            du_BIK, dW_IKM, g_PD = _backward(options, *parts)
        dW_IKJD = dW_IKM.unflatten(2, kernel_IJKD.shape[1::2])
        return du_BIK, dW_IKJD.transpose(1, 2), g_PD.view(dposes_BJD.shape).sum(0)

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keeps nothing."""

    @staticmethod
    def backward(ctx, *_):
        raise _refusal("second derivatives")

    @staticmethod
    def vmap(info, in_dims, *arguments):
        return _unbatched(_Gradient, info.batch_size, in_dims, arguments)

    @staticmethod
    def jvp(ctx, *tangents):
        raise _refusal("second derivatives")


# A compiler would unroll the loops over blocks, and has nothing to add to batched products.
_apply = _uncompiled(_Dynamic.apply)
